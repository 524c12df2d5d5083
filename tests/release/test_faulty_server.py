"""The faults that drills plant do what they say."""

import http.client
import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.release.server import bundles
from tests.release.server.running import launch, request, serving, wait_for

FAULTY = (sys.executable, "-m", "tests.release.faulty_server")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.pack(tmp_path_factory.mktemp("faulty"))


def faulty(bundle, fault):
    return serving(bundle, "--fault", fault, program=FAULTY)


def test_crash_on_load_is_an_abort(bundle):
    assert launch(bundle, "--fault", "load-crash", program=FAULTY).process.wait(60) == -signal.SIGABRT


def test_hang_on_load_never_listens(bundle):
    server = launch(bundle, "--fault", "load-hang", program=FAULTY)
    try:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        assert server.process.poll() is None
    finally:
        server.process.kill()
        server.process.wait()


def test_crash_comes_in_the_run_that_was_named(bundle):
    with faulty(bundle, "crash:3") as server:
        assert [server.infer(request())[0] for _ in range(2)] == [200, 200]
        with pytest.raises((http.client.HTTPException, OSError)):
            server.infer(request())
        assert server.process.wait(60) == -signal.SIGKILL


def test_hang_leaves_health_checks_answered(bundle):
    with faulty(bundle, "hang:2") as server:
        assert server.infer(request())[0] == 200
        assert server.infer(request(), {"X-Request-Timeout-Ms": "100"})[0] == 504
        assert server.get("/v2/health/ready")[0] == 200


def test_freeze_answers_nothing_and_keeps_the_port(bundle):
    with faulty(bundle, "freeze:1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            text = json.dumps(request()).encode()
            head = f"POST /v2/models/{bundles.NAME}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall(head.encode() + text)
            wait_for(lambda: " T " in Path(f"/proc/{server.process.pid}/stat").read_text())
        probe = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        probe.settimeout(0.5)
        probe.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            probe.recv(1)
        probe.close()


def test_slow_takes_at_least_as_long_as_told(bundle):
    with faulty(bundle, "slow:150") as server:
        assert server.infer(request())[0] == 200
        assert server.logged(1)[0]["ms"] >= 150


def test_share_of_errors_is_about_that_share(bundle):
    with faulty(bundle, "errors:0.3") as server:
        statuses = [server.infer(request())[0] for _ in range(200)]
        assert set(statuses) == {200, 500}
        assert 30 <= statuses.count(500) <= 90


def test_leak_grows_with_every_run(bundle):
    with faulty(bundle, "leak:20") as server:
        server.infer(request())
        before = server.metric("process_resident_memory_bytes")
        for _ in range(5):
            server.infer(request())
        assert server.metric("process_resident_memory_bytes") - before > 80e6


def test_fault_that_is_none_is_named(bundle):
    server = launch(bundle, "--fault", "gremlin", program=FAULTY)
    assert server.process.wait(60) == 1
    assert "gremlin" in server.told
