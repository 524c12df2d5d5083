"""Out of the way of training: the processor where nobody who trains wants it.

Linux weighs sessions first (autogroup), and processes only within one; W&B's client starts its own process in a session
of its own. To be nice is therefore not enough, and nothing that a child inherits: each session has to be told.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

NICE = 19
_TRIES, _PAUSE = 5, 0.1
"""Linux takes no two changes of a session within a tenth of a second."""


def give_way() -> None:
    """Lower the priority of this process, and of all that it starts from now on; only `weigh` can be taken back."""
    with suppress(OSError, AttributeError):
        os.nice(NICE)
    # One that waits for work then never interrupts another that has some.
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.environ.setdefault("GOMAXPROCS", "1")  # W&B's own process needs half the time where it keeps to one core
    weigh(NICE)


def weigh(nice: int) -> None:
    """Set how nice those sessions are that this process and its children lead, where the system weighs sessions."""
    for pid in _family():
        with suppress(OSError):
            if os.getsid(pid) == pid:
                _write(Path(f"/proc/{pid}/autogroup"), str(nice))


def _family() -> list[int]:
    me = psutil.Process()
    with suppress(psutil.Error):
        return [me.pid, *(child.pid for child in me.children(recursive=True))]
    return [me.pid]


def _write(weight: Path, nice: str) -> None:
    for _ in range(_TRIES):
        try:
            weight.write_text(nice)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return
