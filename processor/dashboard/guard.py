"""Who may ask: the Host and Origin of every request, the token, and the headers of every answer.

A page on localhost is within reach of every web site that its user opens. So a request must name a host that can only
be us (a rebound DNS name never is), and one that changes something must come from our own page. Bound to anything but
the loopback interface, everything needs the token.
"""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "processor_token"
FILES = "/static/"
READS = frozenset(("GET", "HEAD", "OPTIONS"))

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""No inline script or style, nothing from elsewhere. uPlot and the page set styles through the CSSOM, which is free."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def loopback(host: str) -> bool:
    """Tell whether a host (a name or an address) is this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware in front of everything.

    token: what every request must bring, as `Authorization: Bearer`, as the cookie, or once as `?token=`, which sets
    the cookie; None asks for none. names: the host names that are us; addresses other than loopback's are accepted
    only where there is a token.
    """

    def __init__(self, app: ASGIApp, *, token: str | None = None, names: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._token = token
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            return  # there are no websockets, and nothing to start or end
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                answer.setdefault("Cache-Control", "no-cache" if scope["path"].startswith(FILES) else "no-store")
            await send(message)

        await (refusal or self._app)(scope, receive, secured)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that is not let through."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return PlainTextResponse("This is not a host name of this page: use the address that was printed.\n", 421)
        if scope["method"] not in READS and not _same_origin(scope, headers, hosts[0]):
            return PlainTextResponse("Only this page itself may do that (Origin).\n", 403)
        return None if self._token is None else self._identify(scope, headers, self._token)

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return loopback(name) or name in self._names or (self._token is not None and _is_address(name))

    def _identify(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        if _equal(_presented(headers), token):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == "token"), "")
        if scope["method"] == "GET" and _equal(given, token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            path = "/" + scope["path"].lstrip("/")  # never another host: //evil would be one
            response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
            return response
        return PlainTextResponse(
            "A token is needed: open the address with ?token= that was printed when the page was started.\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def _presented(headers: Headers) -> str:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    return "" if cookie is None else cookie.value


def _equal(one: str, other: str) -> bool:
    """Compare in a time that says nothing of where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _same_origin(scope: Scope, headers: Headers, host: str) -> bool:
    """Tell whether our own page sent this: a browser says so in Origin, with every POST."""
    return headers.get("origin", "").lower() == f"{scope['scheme']}://{host}".lower()
