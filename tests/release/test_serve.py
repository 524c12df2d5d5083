"""`switchback serve`: what is broken is told before anything starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from ci_tools.errors import ConfigError
from ci_tools.release import serve as serving
from ci_tools.release.bundle.keys import public_beside
from ci_tools.release.home import Home
from ci_tools.release.serve import serve
from ci_tools.release.supervisor.child import last_line
from tests.release.server.running import wait_for


@pytest.mark.parametrize("wrong", ["missing", "text", "private"])
def test_key_that_is_none_is_refused(tmp_path, monkeypatch, key, wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no key")
    (tmp_path / "private").write_bytes(key.read_bytes())
    with pytest.raises(ConfigError, match=f"{wrong}: (no such|is no) public key"):
        serve(tmp_path / "home", 0, public_keys=(public_beside(key), Path(wrong)))
    assert not (tmp_path / "home").exists()


def test_policy_that_is_named_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"realease\.yaml: no such file"):
        serve(tmp_path / "home", 0, rules=tmp_path / "realease.yaml")
    assert not (tmp_path / "home").exists()


def test_ports_of_clients_and_of_control_are_two(tmp_path):
    with pytest.raises(ConfigError, match="--port, --api-port: both are 8001"):
        serve(tmp_path / "home", 8001, api_port=8001)


def test_name_of_a_proxy_needs_a_port_behind_it(tmp_path):
    with pytest.raises(ConfigError, match="--api-host: is of no use without --api-port"):
        serve(tmp_path, 0, api_hosts=("release.example.com",))


@pytest.mark.parametrize(
    "host", ["https://release.example.com", "release.example.com:443", "a/b", "-x", "", "a b", "ä"]
)
def test_name_of_a_proxy_is_a_name_alone(tmp_path, host):
    with pytest.raises(ConfigError, match=r"--api-host: .* is none; a name without scheme and port"):
        serve(tmp_path, 0, api_port=8070, api_hosts=("release.example.com", host))


def test_controller_is_told_the_names_of_a_proxy(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(serving, "Supervisor", lambda home, port, settings: told.append(settings) or Mock())
    serve(tmp_path, 8000, api_port=8070, api_hosts=("a.example.com", "b.example.com"))
    words = told[0].controller_command
    assert [words[at + 1] for at, word in enumerate(words) if word == "--api-host"] == [
        "a.example.com",
        "b.example.com",
    ]


def test_home_that_is_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="name a shorter --home"):
        serve(tmp_path / ("h" * 120), 0)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_working_directory_are_not_taken_for_modules(tmp_path):
    """The controller is a Python of its own, started where the user is."""
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    command = [sys.executable, "-P", "-m", "ci_tools", "serve", "--home", "home", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    home = Home(tmp_path / "home")
    log = home.access_log.with_name("controller.log")
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=environment) as service:
        try:
            wait_for(lambda: home.socket.exists() or "shadowed" in last_line(log))
        finally:
            service.send_signal(signal.SIGTERM)
            said = service.communicate(timeout=60)[1].decode()
    assert last_line(log) == ""
    assert "shadowed" not in said
    assert service.returncode == 0
