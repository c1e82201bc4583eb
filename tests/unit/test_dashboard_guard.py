"""Who the page answers: real requests over sockets, as a browser, a rebound name or another site's page sends them."""

from __future__ import annotations

import http.client
import json
from types import SimpleNamespace

import pytest

from processor.dashboard import guard
from processor.dashboard.app import Sources
from processor.dashboard.server import Dashboard, loopback
from processor.errors import LocalError, SettingsError

TOKEN = "t" * 32
READS = ("/", "/devices/CB:B8:33:4C:88:4F", "/pipeline", "/rejected", "/static/app.js", "/api/devices", "/api/pipeline")


def nothing():
    """Sources that hold nothing, and note what is redriven."""
    redriven = []
    return SimpleNamespace(
        redriven=redriven,
        sources=Sources(
            fleet=SimpleNamespace(rows=dict, one=lambda address: None),
            series=None,
            health=SimpleNamespace(snapshot=lambda: {"history": {}}),
            rejected=SimpleNamespace(
                count=lambda: (0, 0), redrive=lambda asked: redriven.append(asked) or {"dry_run": False}
            ),
            refresh=1,
        ),
    )


class Client:
    """Asks one server; Host and Origin are what the test says."""

    def __init__(self, page):
        self.port = int(page.url.partition("?")[0].rstrip("/").rpartition(":")[2])

    def __call__(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True)
            sent = {"Host": f"127.0.0.1:{self.port}"} | {name.replace("_", "-"): each for name, each in headers.items()}
            data = b"" if body is None else json.dumps(body).encode()
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return SimpleNamespace(status=answer.status, headers=answer.headers, body=answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def local():
    """A page on the loopback interface, and what was redriven through it."""
    held = nothing()
    with Dashboard(held.sources, port=0) as page:
        yield Client(page), held.redriven


@pytest.fixture(scope="module")
def guarded():
    """A page that needs a token, as any other than localhost's does."""
    with Dashboard(nothing().sources, host="0.0.0.0", port=0, token=TOKEN) as page:
        assert page.url.endswith(f"?token={TOKEN}")
        yield Client(page)


@pytest.mark.parametrize("path", READS)
def test_every_answer_forbids_what_the_page_does_not_need(local, path):
    """Inline script and style, other origins, frames, sniffing and referrers: refused by the headers of all of them."""
    ask, _ = local
    answer = ask("GET", path)
    assert answer.status == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    for name in ("X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options", "Cross-Origin-Resource-Policy"):
        assert answer.headers[name]
    assert answer.headers["Cache-Control"] == ("no-cache" if path[:4] != "/api" else "no-store")
    assert "server" not in answer.headers


def test_no_file_of_the_page_has_inline_script_style_or_another_origin():
    """What the policy would refuse is not there to begin with."""
    from processor.dashboard.app import STATIC

    files = [
        path
        for path in STATIC.rglob("*")
        if path.suffix in (".html", ".js", ".css", ".svg") and "uplot" not in path.parts
    ]
    assert len(files) >= 12
    for path in files:
        text = path.read_text()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    index = (STATIC / "index.html").read_text()
    assert "<style" not in index
    assert " style=" not in index
    assert " onclick" not in index
    assert all("src=" in tag for tag in index.split("<script")[1:])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8787",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        None,
        "localhost.evil.example",
        "[::1",
    ],
)
def test_a_rebound_name_gets_nothing(local, host):
    """DNS rebinding: the browser says the evil name in Host, whatever address it led to."""
    ask, _ = local
    for path in READS:
        answer = ask("GET", path, Host=host)
        assert answer.status in (400, 421)
        assert b"<html" not in answer.body


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:9"])
def test_loopback_names_are_ours_at_any_port(local, host):
    """A tunnel (ssh -L) listens at another port than we do."""
    ask, _ = local
    assert ask("GET", "/api/devices", Host=host).status == 200


def test_only_the_page_itself_may_redrive(local):
    """Another site's page cannot leave Origin out, nor send JSON without asking first; a form's body is not JSON."""
    ask, redriven = local
    own = f"http://127.0.0.1:{ask.port}"
    json_type = {"Content_Type": "application/json"}
    for origin in (
        None,
        "null",
        "https://evil.example",
        f"http://127.0.0.1:{ask.port + 1}",
        f"https://127.0.0.1:{ask.port}",
    ):
        assert ask("POST", "/api/redrive", {}, Origin=origin, **json_type).status == 403
    assert ask("POST", "/api/redrive", {}, Origin=own, Content_Type="text/plain").status == 415
    assert ask("POST", "/api/redrive", [], Origin=own, **json_type).status == 400
    assert ask("POST", "/api/redrive", {"records": ["x" * 300_000]}, Origin=own, **json_type).status == 413
    assert redriven == []
    assert ask("POST", "/api/redrive", {"dry_run": True}, Origin=own, **json_type).status == 200
    assert redriven == [{"dry_run": True}]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_else_takes_a_method_that_changes(local, method):
    ask, _ = local
    for path in (*READS, "/api/rejected", "/api/events"):
        assert ask(method, path, {}, Origin=f"http://127.0.0.1:{ask.port}").status == 405
    assert ask("GET", "/api/redrive").status == 405


def test_files_outside_the_pages_folder_are_not_served(local):
    ask, _ = local
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
        assert ask("GET", path).status in (400, 404)


def test_without_the_token_there_is_nothing(guarded):
    wrong = "u" * 32
    for path in READS:
        for headers in (
            {},
            {"Authorization": f"Bearer {wrong}"},
            {"Cookie": f"processor_token={wrong}"},
            {"Authorization": TOKEN},
        ):
            answer = guarded("GET", path, **headers)
            assert answer.status == 401
            assert TOKEN.encode() not in answer.body
        assert guarded("GET", f"{path}?token={wrong}").status == 401
    assert guarded("POST", f"/api/redrive?token={TOKEN}", {}, Origin=f"http://127.0.0.1:{guarded.port}").status == 401


def test_the_first_visit_turns_the_token_into_a_cookie_and_leaves_no_trace_in_the_address(guarded):
    first = guarded("GET", f"/devices/CB:B8:33:4C:88:4F?span=60&token={TOKEN}")
    assert (first.status, first.headers["Location"]) == (303, "/devices/CB:B8:33:4C:88:4F?span=60")
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    second = guarded("GET", "/", Cookie=cookie.partition(";")[0])
    assert second.status == 200
    assert TOKEN.encode() not in second.body
    assert guarded("GET", "/api/devices", Authorization=f"Bearer {TOKEN}").status == 200
    assert guarded("GET", f"//evil.example/?token={TOKEN}").headers["Location"].startswith("/evil.example/")


def test_the_comparison_of_tokens_takes_the_same_time_wherever_they_differ(guarded, monkeypatch):
    """Every comparison goes through hmac.compare_digest."""
    compared = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or one == other)
    guarded("GET", "/api/devices", Authorization=f"Bearer {TOKEN}")
    guarded("GET", "/?token=abc")
    assert (TOKEN.encode(), TOKEN.encode()) in compared
    assert (b"abc", TOKEN.encode()) in compared


def test_with_a_token_addresses_are_ours_but_other_names_are_not(guarded):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded("GET", "/api/devices", Host="192.168.1.5:8787", **bearer).status == 200
    assert guarded("GET", "/api/devices", Host="evil.example", **bearer).status == 421


def test_anything_but_the_loopback_interface_gets_a_token_of_its_own():
    sources = nothing().sources
    with Dashboard(sources, host="0.0.0.0", port=0) as one, Dashboard(sources, host="0.0.0.0", port=0) as other:
        assert one.token
        assert len(one.token) >= 32
        assert one.token != other.token
    with Dashboard(sources, port=0) as page:
        assert page.token is None
    with pytest.raises(SettingsError, match="at least 16"):
        Dashboard(sources, token="short")
    assert [loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1")] == [
        True
    ] * 4 + [False] * 3


def test_a_port_that_is_taken_is_said_or_another_is_found():
    sources = nothing().sources
    with Dashboard(sources, port=0) as page:
        port = Client(page).port
        with pytest.raises(LocalError, match="choose another --port"):
            Dashboard(sources, port=port)
