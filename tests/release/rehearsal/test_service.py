"""The service of a rehearsal: up, down, and never there without the process that began it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools.errors import DependencyUnavailable
from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.client.connection import Connection
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.rehearsal.service import running
from tests.release.api.serving import until

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from ci_tools.release.bundle import Trust
from ci_tools.release.client.connection import Connection
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.rehearsal.service import running
home, key = map(Path, sys.argv[1:])
with running(Home(home), Policy(), Trust(public_keys=(key,))) as address, Connection(address) as connection:
    print(connection.status().controller_pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("r") / "s")


@pytest.fixture
def public(tmp_path):
    return public_beside(signing_key(tmp_path / "signing.pem"))


def lives(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_rehearsal_however_that_ends(home, public, number):
    command = [sys.executable, "-c", HOLD, str(home.path), str(public)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             text=True, cwd=ROOT)  # fmt: skip
    assert child.stdout
    controller = int(child.stdout.readline())
    service = parent(controller)
    assert lives(service)
    child.send_signal(number)
    child.communicate(timeout=60)
    until(lambda: not lives(service) and not lives(controller))


def test_service_that_does_not_come_up_says_why(home, public):
    missing = Trust(public_keys=(public.with_name("missing.pub"),))
    refused = pytest.raises(DependencyUnavailable, match=r"did not come up \(exit code 2: error: .*missing\.pub")
    with refused, running(home, Policy(), missing):
        pass


def test_service_answers_inside_the_block_only(home, public):
    with running(home, Policy(), Trust(public_keys=(public,))) as address, Connection(address) as connection:
        assert connection.status().champion == ""
        service = parent(connection.status().controller_pid)
    assert not lives(service)
    assert service != os.getpid()
