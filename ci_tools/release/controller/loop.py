"""The controller's loop: a tick, a pause, again; whatever fails, it tries on, and the lease runs out meanwhile."""

import sys
import threading
from contextlib import suppress

from ci_tools.errors import SwitchbackError
from ci_tools.harmless import one_line
from ci_tools.release.controller.controller import Controller

AFTER_FAILURE = 1.0
"""Seconds until the next try: it starts over from what is on the disk."""


def run(controller: Controller, tick_seconds: float, stop: threading.Event) -> None:
    """Tick until told to stop. A failure is told once, in one line; `Status.warnings` shows it as long as it lasts."""
    told = ""
    while not stop.is_set():
        pause = tick_seconds
        try:
            controller.tick()
            told = ""
        except Exception as error:
            what = str(error) if isinstance(error, SwitchbackError) else f"{type(error).__name__}: {error}"
            if what != told:
                with suppress(OSError):  # what is full may be the disk of the log: then nobody hears, and it goes on
                    sys.stderr.write(f"error: controller: {one_line(what)}\n")
            told, pause = what, max(tick_seconds, AFTER_FAILURE)
        stop.wait(pause)
