"""One process at a time."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools.lock import Taken, alone

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from ci_tools.lock import alone
with alone(Path(sys.argv[1]), "the holder"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_taken_lock_names_its_owner(holder, tmp_path):
    with pytest.raises(Taken) as caught, alone(tmp_path / "lock"):
        pass
    assert caught.value.owner == "the holder"


def test_death_of_the_owner_frees_it(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    with alone(tmp_path / "lock", "us"):
        assert (tmp_path / "lock").read_text() == "us"
    assert (tmp_path / "lock").read_text() == ""


def test_owner_that_says_nothing_is_another_process(tmp_path):
    with alone(tmp_path / "lock"), pytest.raises(Taken, match="another process"), alone(tmp_path / "lock"):
        pass


def test_waiting_ends_when_the_lock_is_free(tmp_path):
    context = multiprocessing.get_context("fork")
    order = tmp_path / "order"

    def second():
        with alone(tmp_path / "lock", wait=True), order.open("a") as file:
            file.write("second")

    with alone(tmp_path / "lock"):
        process = context.Process(target=second)
        process.start()
        os.sched_yield()
        order.write_text("first ")
    process.join(60)
    assert order.read_text() == "first second"


def test_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(OSError, match="missing"), alone(tmp_path / "missing" / "lock"):
        pass
