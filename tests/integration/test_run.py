"""`processor run` as a user types it: whole processes, real sockets, and nothing left behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.decode.advertisement import service_data
from processor.local.system import System

PROCESSOR = [sys.executable, "-m", "processor.cli"]
GATEWAY = "C8:25:2D:8E:9C:2C"
TAG = "CB:B8:33:4C:88:4F"


def processor(*arguments, environment=None, stdin=""):
    """Run one command to its end."""
    return subprocess.run(
        [*PROCESSOR, *arguments], env=os.environ | (environment or {}), input=stdin, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


@contextmanager
def kept(*arguments):
    """A kept run: its environment for other commands, its Funnel address, and its output so far."""
    command = [*PROCESSOR, "run", "--keep", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output = []
            for line in process.stdout:
                output.append(line)
                if line.startswith("  curl"):
                    break
            text = "".join(output)
            environment = dict(re.findall(r"^  export (\w+)=(\S+)$", text, re.MULTILINE))
            address = re.search(r"Funnel's stand-in at http://([\d.]+):(\d+); TCP [\d.]+:(\d+); UDP [\d.]+:(\d+)", text)
            assert address, text
            yield process, environment, address.groups(), text
        finally:
            process.kill()


def processes_of(group_of):
    """The processes whose parent chain leads to one process."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children = {}
    for line in found.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    todo, every = [group_of], []
    while todo:
        todo += (more := children.get(todo.pop(), []))
        every += more
    return every


def query(environment, device, *arguments):
    done = processor("query", device, "--format", "json", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def eventually(check, seconds):
    """Call `check` until it gives something; fail after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing after {seconds} s")


def ruuvi_post(at, sequence, temperature):
    """A Ruuvi Gateway's post wrapped in Funnel's envelope; the tag's payload is data format 5."""
    raw = round(temperature / 0.005).to_bytes(2, "big", signed=True).hex()
    payload = f"05{raw}5394C37C0004FFFC040CAC3642{sequence:04X}CBB8334C884F"
    tags = {TAG: {"rssi": -26, "timestamp": at, "data": f"0201061BFF9904{payload}"}}
    post = {"data": {"coordinates": "", "timestamp": at, "nonce": 1, "gw_mac": GATEWAY, "tags": tags}}
    return {"payloads": post, "timestamp": at * 1000, "imsi": "295050000000001", "sourceProtocol": "http"}


def test_a_simulated_run_passes_its_own_check():
    done = processor("run", "--devices", "20", "--seconds", "2", "--rate", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert re.search(r"lost 0, foreign 0, changed 0", done.stdout)


def test_the_same_seed_sends_the_same_readings():
    first, second = (processor("run", "--devices", "20", "--readings", "60", "--rate", "100") for _ in "ab")
    sent = [re.search(r"^Ledger +([\d,]+) advertisements", done.stdout, re.MULTILINE)[1] for done in (first, second)]
    assert sent[0] == sent[1]


def test_a_capture_of_ruuvi_gateway_posts_is_queried_back_value_by_value(tmp_path):
    """Old captures too: these are of 2022."""
    start = 1_653_668_027
    temperatures = [round(20 + n * 0.005, 3) for n in range(50)]
    capture = tmp_path / "capture.jsonl"
    capture.write_text("".join(json.dumps(ruuvi_post(start + n, n, t)) + "\n" for n, t in enumerate(temperatures)))
    with kept("--input", str(capture), "--shards", "1") as (process, environment, _, text):
        assert "PASSED" in text
        found = query(environment, TAG, "--from", "2022-05-27", "--to", "2022-05-28")
        assert [reading["temperature"] for reading in found] == temperatures
        assert [reading["sequence"] for reading in found] == list(range(50))
        assert found[0] == {
            "at": "2022-05-27T16:13:47.000Z", "device": TAG, "format": "ruuvi.5", "identity": found[0]["identity"],
            "gateway": GATEWAY, "rssi": -26, "temperature": 20.0, "humidity": 53.49, "pressure": 100044,
            "acceleration_x": 0.004, "acceleration_y": -0.004, "acceleration_z": 1.036, "battery_voltage": 2.977,
            "tx_power": 4, "movement_counter": 66, "sequence": 0,
        }  # fmt: skip
        assert query(environment, "cb-b8-33-4c-88-4f", "--last", "2") == found[-2:]
        assert TAG in processor("devices", environment=environment).stdout
        children = processes_of(process.pid)
        assert len(children) >= 2  # the embedded AWS and a worker
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 10)


def test_what_is_posted_to_funnels_stand_in_is_queryable_at_once():
    """HTTP as curl posts, TCP and UDP as nc does; and a malformed post is refused as Funnel refuses it."""
    with kept("--devices", "2", "--readings", "2") as (process, environment, (host, port, tcp_port, udp_port), _):
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        posts = [ruuvi_post(int(time.time()), 7 + n, 24.3)["payloads"] for n in range(3)]
        connection.request("POST", "/", json.dumps(posts[0]), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 204
        posted = time.monotonic()
        eventually(lambda: query(environment, TAG, "--last", "9"), 30)
        took = time.monotonic() - posted
        connection.close()
        connection.request("POST", "/", "{oops", {"Content-Type": "application/json"})
        refused = connection.getresponse()
        assert (refused.status, json.loads(refused.read())) == (400, {"message": "Invalid JSON is send to funnel."})
        connection.close()
        with socket.create_connection((host, int(tcp_port)), timeout=10) as tcp:
            tcp.sendall(json.dumps(posts[1]).encode())
            assert tcp.recv(100) == b"200"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(10)
            udp.sendto(json.dumps(posts[2]).encode(), (host, int(udp_port)))
            assert udp.recv(100) == b"200"
        eventually(lambda: len(query(environment, TAG, "--last", "9")) == 3, 30)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert "3 records came through" in rest
        print(f"queryable after {took:.1f} s, the query's own start included")


@pytest.mark.parametrize(
    ("lines", "message"),
    [("", "has no lines"), ("x" * (1024 * 1024 + 1), "line 1: 1,048,577 bytes")],
    ids=["empty", "too long"],
)
def test_an_input_that_cannot_be_sent_is_refused_with_what_to_do(lines, message):
    done = processor("run", "--input", "-", stdin=lines)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_input_of_nonsense_ends_in_quarantine_and_passes():
    done = processor("run", "--input", "-", stdin='{"a": 1}\nnot json\n\n[1, 2]\n{"payloads": "AAAA"}\n')
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"0 stored \+ 0 duplicates \+ [4-6] rejected", done.stdout)


def test_a_deleted_cell_makes_the_run_fail(monkeypatch):
    check = System.check

    def tampered(system):
        item = next(iter(system.reader.scan()))
        system.aws.client("dynamodb").update_item(
            TableName=system.settings.readings_table,
            Key={"device": item["device"], "slot": item["slot"]},
            UpdateExpression="REMOVE #c",
            ExpressionAttributeNames={"#c": next(name for name in item if name.startswith(("c", "t")))},
        )
        return check(system)

    monkeypatch.setattr(System, "check", tampered)
    done = CliRunner().invoke(main, ["run", "--devices", "10", "--readings", "20", "--rate", "50"])
    assert done.exit_code == 1
    assert "1 lost: sent, but not in the table" in done.stdout
    assert "FAILED" in done.stdout


def test_a_line_of_live_input_is_sent_when_it_comes_and_ctrl_c_ends_the_wait():
    command = [*PROCESSOR, "run", "--input", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(json.dumps(ruuvi_post(int(time.time()), 1, 24.3)).encode() + b"\n")
        process.stdin.flush()
        line = next(line for line in process.stdout if b"stored 1" in line)
        assert b"records sent 1" in line
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.strip() == b"Aborted!"


def test_an_encrypted_capture_is_decoded_with_the_users_keys():
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "bthome.json").read_text())["vectors"][-1]
    data = service_data(0xFCD2, bytes.fromhex(vector["hex"])).hex()
    line = json.dumps([{"address": vector["mac"], "data": data}]) + "\n"
    with_key = processor(
        "run", "--input", "-", stdin=line, environment={"BINDKEYS": f"{vector['mac']}={vector['key']}"}
    )
    assert "1 stored" in with_key.stdout
    assert "humidity 50.55" in with_key.stdout
    assert "no_key 1" in processor("run", "--input", "-", stdin=line).stdout


def test_a_kept_run_says_when_its_aws_has_died():
    with kept("--devices", "2", "--readings", "2") as (process, _, _, _):
        for pid in processes_of(process.pid):
            if b"ministack" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        assert "the embedded AWS" in process.stdout.read()
        assert process.wait(30) == 1


def test_options_that_would_do_nothing_are_refused():
    for arguments in (("--input", "-", "--devices", "3"), ("--readings", "5", "--seconds", "3")):
        done = processor("run", *arguments)
        assert done.returncode == 2
        assert "does nothing with" in done.stderr


def test_quarantine_and_query_say_what_is_wrong_in_words():
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
               "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}  # fmt: skip
    for arguments in (("quarantine",), ("devices",)):
        done = processor(*arguments, environment=nowhere)
        assert done.returncode == 1
        assert "127.0.0.1:9" in done.stderr
        assert "Traceback" not in done.stderr
    done = processor("query", TAG, "--from", "now", "--to", "-2h", environment=nowhere)
    assert "--from, --to: " in done.stderr
    assert " is not before " in done.stderr


def test_query_says_what_a_bad_argument_should_have_been():
    for arguments, message in [
        (("query", "12345"), "12 hexadecimal digits"),
        (("query", TAG, "--from", "yesterday"), "ISO 8601"),
        (("query", TAG, "--last", "2", "--from", "-2h"), "excludes"),
    ]:
        done = processor(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
