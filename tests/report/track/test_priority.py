"""Priorities: of a process that gives way, of the sessions that it and its children lead, and of no other."""

import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
PREPARED = "import os, subprocess, sys, time; from ci_tools.report.track import priority\n"
SLEEP = "subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, start_new_session=%s)"
NICE = "lambda pid: int(open(f'/proc/{pid}/autogroup').read().split()[-1])"

weighs = pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not weigh sessions")


def run(code, **options):
    done = subprocess.run([sys.executable, "-c", PREPARED + code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_process_that_gives_way_is_nice_and_what_it_starts_is_too():
    code = (
        "priority.give_way()\n"
        "ask = 'import os; print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_BATCH)'\n"
        "subprocess.run([sys.executable, '-c', ask])"
    )
    assert run(code) == ["19", "True"]


@weighs
def test_sessions_of_a_process_and_of_its_children_are_weighed_and_weighed_again():
    code = (
        f"nice = {NICE}\n"
        f"child = {SLEEP % True}\n"
        "for weight in (19, 0):\n"
        "    priority.weigh(weight)\n"
        "    print(nice(os.getpid()), nice(child.pid))\n"
        "child.communicate(b'\\n')"
    )
    assert run(code, start_new_session=True) == ["19", "19", "0", "0"]


@weighs
def test_session_that_others_share_stays_as_it_is():
    before = AUTOGROUP.read_text()
    assert run(f"child = {SLEEP % False}\npriority.weigh(19)\nchild.communicate(b'\\n')") == []
    assert AUTOGROUP.read_text() == before


def test_system_that_weighs_no_sessions_is_no_error():
    code = "priority.Path = lambda _: __import__('pathlib').Path('/proc/no/such/file')\npriority.weigh(19); print('on')"
    assert run(code, start_new_session=True) == ["on"]
