"""The loop goes on whatever fails, and tells it once."""

import sys
import threading
from contextlib import suppress
from pathlib import Path

from ci_tools.errors import SwitchbackError
from ci_tools.release.controller import loop


class Failing:
    """A controller whose ticks fail in turn, and which then stops the loop."""

    def __init__(self, stop, *errors):
        self.stop, self.errors, self.ticks = stop, list(errors), 0

    def tick(self):
        self.ticks += 1
        if not self.errors:
            self.stop.set()
            return
        error = self.errors.pop(0)
        if error:
            raise error


def test_failures_are_told_once_each_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(loop, "AFTER_FAILURE", 0.0)
    stop = threading.Event()
    full = [SwitchbackError("the disk is full", where="ledger.db") for _ in range(3)]
    controller = Failing(stop, *full, None, KeyError("bug\nin two lines"), full[0])
    loop.run(controller, 0.0, stop)
    assert controller.ticks == 7
    told = capsys.readouterr().err.splitlines()
    assert told[0] == told[2] == "error: controller: ledger.db: the disk is full"
    assert told[1].startswith("error: controller: KeyError: ")
    assert len(told) == 3


def test_a_log_that_takes_nothing_stops_nothing(monkeypatch):
    monkeypatch.setattr(loop, "AFTER_FAILURE", 0.0)
    stop = threading.Event()
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        controller = Failing(stop, SwitchbackError("the disk is full"), SwitchbackError("it still is"))
        loop.run(controller, 0.0, stop)
        with suppress(OSError):
            full.close()
    assert controller.ticks == 3


def test_a_failure_makes_the_loop_slower(monkeypatch):
    stop, pauses = threading.Event(), []
    monkeypatch.setattr(stop, "wait", pauses.append)
    loop.run(Failing(stop, None, SwitchbackError("x")), 0.1, stop)
    assert pauses == [0.1, loop.AFTER_FAILURE, 0.1]
