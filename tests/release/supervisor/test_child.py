"""Children: why they ended, and that they cannot outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ci_tools.errors import DependencyUnavailable
from ci_tools.release.supervisor.child import Child, last_line

ROOT = Path(__file__).parents[3]
PARENT = """
import sys, time
from pathlib import Path
from ci_tools.release.supervisor.child import Child
print(Child(["sleep", "600"], Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def outcome(child):
    end = time.monotonic() + 20
    while not (why := child.ended()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return why


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo one; echo two >&2; echo; exit 7", "exit code 7: two"),
        ("exit 0", "exit code 0"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo ouch; kill -SEGV $$", "killed by SIGSEGV: ouch"),
        ("kill -40 $$", "killed by signal 40"),
        (r"printf '\033[2J##[error]\n'; exit 1", "exit code 1: \ufffd[2J## [error]"),
    ],
)
def test_end_is_told_with_the_last_line(log, script, why):
    assert outcome(Child(["sh", "-c", script], log)) == why


def test_last_line_is_that_of_this_start(log):
    assert outcome(Child(["sh", "-c", "echo before; exit 1"], log)) == "exit code 1: before"
    assert outcome(Child(["sh", "-c", "exit 1"], log)) == "exit code 1"
    assert log.read_text() == "before\n"


def test_last_line_of_a_log_that_was_begun_anew_meanwhile_is_found(log):
    log.write_bytes(b"short\n")
    assert last_line(log, begins=1000) == "short"


def test_last_line_is_short_and_printable(log):
    log.write_bytes(b"x" * 10_000 + b"\n\xff" + b"y" * 5000 + b"\n")
    assert len(last_line(log)) == 300
    assert last_line(log.with_name("missing")) == ""


def test_large_log_begins_anew(log):
    log.write_bytes(b"x" * (2 << 20))
    outcome(Child(["sh", "-c", "echo fresh"], log))
    assert log.read_text() == "fresh\n"


def test_child_runs_where_its_log_cannot_be_written(tmp_path):
    assert outcome(Child(["sh", "-c", "echo unheard; exit 3"], tmp_path / "missing" / "log")) == "exit code 3"


def test_missing_program_is_named(log):
    with pytest.raises(DependencyUnavailable, match="no program no-such-program"):
        Child(["no-such-program"], log)


def test_killed_parent_takes_its_child_along(log):
    command = [sys.executable, "-c", PARENT, str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=20)


def test_expendable_child_goes_first_when_memory_is_short(log):
    child = Child(["sleep", "600"], log, expendable=True)
    try:
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "500"
        child.signal(signal.SIGTERM)
        assert outcome(child) == "killed by SIGTERM"
        child.signal(signal.SIGTERM)
    finally:
        child.kill()
