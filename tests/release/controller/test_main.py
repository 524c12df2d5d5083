"""The controller as a process: what it says where it cannot begin, what it serves, and that it ends when told to."""

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import httpx
import pytest

from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.control import Status
from ci_tools.release.controller import serving
from ci_tools.release.controller.__main__ import main
from ci_tools.release.home import Home
from ci_tools.release.ledger import Ledger
from ci_tools.release.plan import Plan
from ci_tools.release.registry import Registry
from ci_tools.release.supervisor.server import free_port
from tests.release.bundle import toy

PATIENCE = 60.0


@pytest.fixture
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("h"))


@pytest.mark.parametrize(
    ("text", "sentence"), [("false_rollback: 2\n", "false_rollback"), ("nonsense: 1\n", "unknown key")]
)
def test_a_broken_policy_is_one_line_and_exit_code_2(home, capsys, text, sentence):
    (home.path / "release.yaml").write_text(text)
    assert main(["--home", str(home.path), "--policy", str(home.path / "release.yaml")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_edited_ledger_is_one_line_and_exit_code_2(home, capsys):
    with Ledger(home.ledger) as ledger:
        ledger.append("started", "service", "", {})
        ledger.append("started", "service", "", {})
        ledger._db.execute("DROP TRIGGER no_update")
        ledger._db.execute("UPDATE events SET actor = 'bob' WHERE seq = 1")
    assert main(["--home", str(home.path)]) == 2
    assert "event 1 does not fit" in capsys.readouterr().err


def test_token_is_made_once_and_for_this_user_only(home):
    token = serving.token(home)
    assert len(token) >= 40
    assert serving.token(home) == token
    assert stat.S_IMODE((home.path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("left", ["", "\n", "short", "s\u00e9cret of no plain letters", "a b" * 20])
def test_what_is_no_token_is_told(home, left):
    (home.path / "token").write_text(left)
    (home.path / "token").chmod(0o600)
    with pytest.raises(ConfigError, match=r"token: is no token; .* Fix: remove it"):
        serving.token(home)


def test_token_that_others_may_read_is_told(home):
    serving.token(home)
    (home.path / "token").chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it"):
        serving.token(home)


def test_token_that_does_not_fit_on_the_disk_leaves_no_half_one(home, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SwitchbackError, match="No space left"):
            serving.token(home)
    assert len(serving.token(home)) >= 40


def test_the_socket_is_for_this_user_only_and_replaces_a_dead_one(home):
    serving.unix(home.socket).close()
    listener = serving.unix(home.socket)
    assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
    listener.close()


def test_a_path_too_long_for_a_socket_is_told(tmp_path):
    with pytest.raises(ConfigError, match="a socket's path has 107 at most"):
        serving.unix(tmp_path / ("x" * 120))


def test_a_taken_port_is_told():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="cannot be used"):
            serving.loopback(other.getsockname()[1])


def test_a_process_serves_what_is_signed_and_goes_on_after_a_kill(home, tmp_path):
    key, other = signing_key(tmp_path / "signing.pem"), signing_key(tmp_path / "other.pem")
    trusted = public_beside(key)
    bundle = Registry(home.bundles).add(toy.sealed(tmp_path, key), Trust(public_keys=(trusted,))).digest
    foreign = toy.sealed(tmp_path / "foreign", other, model=toy.graph(made="elsewhere").SerializeToString())
    shutil.copytree(foreign, home.bundles / foreign.name)
    command = [sys.executable, "-m", "ci_tools.release.controller", "--home", str(home.path), "--policy",
               str(tmp_path / "release.yaml"), "--trust-key", str(trusted), "--api-port", str(port := free_port(set())),
               "--api-host", "release.example.com"]  # fmt: skip
    for signal_, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(home.socket)), base_url="http://localhost") as api:
                _listens(home.socket, process)
                answer = api.get("/status")
                assert Status.model_validate_json(answer.content).controller_pid == process.pid
                refused = api.post("/releases", json={"bundle": foreign.name, "actor": "ann"})
                assert refused.is_client_error
                assert "trusts" in refused.json()["error"]
                assert api.post("/releases", json={"bundle": bundle, "actor": "ann"}).is_success
            asked = {host: _alive(port, host) for host in ("127.0.0.1", "release.example.com", "evil.example.com")}
            assert asked == {"127.0.0.1": 200, "release.example.com": 200, "evil.example.com": 400}
        finally:
            os.kill(process.pid, signal_)
            _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == code
        assert "Traceback" not in error
    assert Plan.model_validate_json(home.plan.read_bytes()).serial == 1
    with Ledger(home.ledger, readonly=True) as ledger:
        assert [event.kind for event in ledger.events()] == ["started", "installed", "started"]


def _alive(port, host):
    """Status of an answer to whoever asks by that name; before the service has a supervisor it is not alive: 503."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:  # the port opens after the socket
        status = client.get(f"http://127.0.0.1:{port}/readyz", headers={"host": host}).status_code
    return 200 if status == 503 else status


def _listens(path, process):
    """Wait until a process takes calls."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as caller:
            try:
                caller.connect(str(path))
            except OSError:
                time.sleep(0.05)
            else:
                return
    raise AssertionError(f"nobody listens; exit code {process.poll()}")
