"""What the real Envoy sends as a copy is logged as one."""

import json
import subprocess
import tempfile

import pytest

from ci_tools.release.server.app import is_mirror
from tests.release.server import proxy
from tests.release.server.running import INFER, Running, free_port, request, serving, wait_for


@pytest.fixture
def proxied(bundle, tmp_path):
    """(stable, canary, a client of the Envoy before them)."""
    with serving(bundle) as stable, serving(bundle) as canary, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = proxy.command(port, {"stable": stable.port, "canary": canary.port})
        with (tmp_path / "envoy.log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, stdout=log, cwd=folder)
        try:
            front = Running(process, port, None, tmp_path / "envoy.log")

            def open_now():
                assert process.poll() is None, front.told
                try:
                    return front.ask("GET", "/v2/health/ready")[0] == 200
                except OSError:
                    return False

            wait_for(open_now)
            yield stable, canary, front
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8080", "127.0.0.1:10000", "[::1]:80"])
def test_copy_is_logged_as_a_mirror_under_the_id_of_the_original(proxied, host):
    stable, canary, front = proxied
    for _ in range(3):
        assert front.ask("POST", INFER, json.dumps(request()), {"Host": host})[0] == 200
    original, copied = stable.logged(3), canary.logged(3)
    assert {line["mirror"] for line in original} == {False}
    assert {line["mirror"] for line in copied} == {True}
    assert {line["id"] for line in copied} == {line["id"] for line in original}
    assert len({line["id"] for line in copied}) == 3


@pytest.mark.parametrize(
    ("host", "mirror"),
    [("a-shadow", True), ("a-shadow:80", True), ("a", False), ("a:80", False), ("", False), ("a-shadow.b", False),
     ("a-shadow:b", False), ("[::1]-shadow:80", True), ("[::1]", False)],
)  # fmt: skip
def test_name_before_the_port_decides(host, mirror):
    assert is_mirror(host) == mirror
