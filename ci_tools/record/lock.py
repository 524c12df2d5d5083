"""One writer per record."""

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import psutil

from ci_tools.errors import RecordError, RecordLocked
from ci_tools.lock import Taken, alone


class RecordLock:
    """An advisory lock beside the record folder; the kernel frees it when its process ends, however it ends.

    Raises (from `acquire`):
        RecordLocked: another process holds it; the message names it.
        RecordError: the folder cannot be written.
    """

    def __init__(self, record: Path) -> None:
        self.path = record.parent / f".{record.name}.lock"
        self._record = record
        self._held = ExitStack()

    def acquire(self) -> None:
        """Take the lock or fail at once."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(alone(self.path, _owner(os.getpid())))
        except Taken as taken:
            raise RecordLocked(
                f"in use by {taken.owner}", where=self._record, fix="wait for it, or write to another folder"
            ) from None
        except OSError as error:
            raise RecordError(
                f"cannot be written ({error.strerror})", where=self._record, fix="choose a writable folder"
            ) from None

    def release(self) -> None:
        """Give the lock back."""
        self._held.close()


def is_written(record: Path) -> bool:
    """Whether a process holds the lock, told from the name in it.

    A reader must not try the lock itself: a writer that starts at that very moment would be refused.
    """
    try:
        owner = (record.parent / f".{record.name}.lock").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False
    pid = re.match(r"process (\d{1,9}) on ", owner)
    if pid is None:
        return False
    if owner != _owner(int(pid[1])):
        return True  # on another machine, where nobody here can look
    try:
        return bool(psutil.Process(int(pid[1])).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _owner(pid: int) -> str:
    return f"process {pid} on {socket.gethostname()}"
