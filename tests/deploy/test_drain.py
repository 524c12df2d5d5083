"""`deploy/runners/drain`: the training below a runner is told, its job goes on to its end, all else is left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DRAIN = Path(__file__).parents[2] / "deploy/runners/drain"
TRAINING = """\
import pathlib, signal, sys, time
def stop(*_):
    with open("told", "a") as file:
        file.write("x")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("ready").touch()
while not pathlib.Path("enough").exists():
    time.sleep(0.02)
"""
WORKER = """\
bash -e step.sh
echo $? > code
while [ ! -e uploaded ]; do sleep 0.02; done
"""


def until(happened):
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path):
    """Starts a runner with a job whose step executes a command; kills what is left of it."""
    (tmp_path / "switchback").write_text(TRAINING)
    (tmp_path / "Runner.Worker").write_text(WORKER)
    runners = []

    def begin(step):
        (tmp_path / "step.sh").write_text(f"{step}\n")
        runner = subprocess.Popen(["sh", "-c", "sh Runner.Worker; exit 0"], cwd=tmp_path, start_new_session=True)
        runners.append(runner)
        return runner

    yield begin
    for runner in runners:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()


@pytest.mark.parametrize("form", ["{}", "exec {}", "sh -c '{}; exit $?'"])
def test_training_is_told_and_the_job_may_end(start, tmp_path, form):
    runner = start(form.format(f"{sys.executable} switchback reproduce"))
    until((tmp_path / "ready").exists)
    with subprocess.Popen(["sh", DRAIN, str(runner.pid)]) as drain:
        until((tmp_path / "code").exists)
        assert (tmp_path / "code").read_text() == "75\n"
        assert drain.poll() is None, "the job still uploads"
        (tmp_path / "uploaded").touch()
        assert drain.wait(timeout=30) == 0
    assert (tmp_path / "told").read_text() == "x"


def test_training_of_another_runner_goes_on(start, tmp_path):
    other = start(f"{sys.executable} switchback reproduce")
    until((tmp_path / "ready").exists)
    with subprocess.Popen(["sleep", "60"]) as idle:
        assert subprocess.run(["sh", DRAIN, str(idle.pid)], timeout=30).returncode == 0
        idle.kill()
    assert other.poll() is None
    assert not (tmp_path / "told").exists()


def test_job_that_does_not_train_is_waited_for(start, tmp_path):
    runner = start(f"{sys.executable} switchback report")
    until((tmp_path / "ready").exists)
    with subprocess.Popen(["sh", DRAIN, str(runner.pid)]) as drain:
        until(lambda: any(child.name() == "sleep" for child in psutil.Process(drain.pid).children()))
        (tmp_path / "enough").touch()
        until((tmp_path / "code").exists)
        (tmp_path / "uploaded").touch()
        assert drain.wait(timeout=30) == 0
    assert (tmp_path / "code").read_text() == "0\n"
    assert not (tmp_path / "told").exists()
