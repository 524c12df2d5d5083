"""One process at a time: an advisory lock on a file, which the kernel frees when its process ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Taken(Exception):
    """Another process has the lock."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"taken by {owner}")
        self.owner = owner
        """As it called itself; `another process` where it did not."""


@contextmanager
def alone(path: Path, owner: str = "", *, wait: bool = False) -> Iterator[None]:
    """Hold the lock while the block runs.

    Args:
        path: of the file; made where it is not there, and left there: who removes it parts two that wait for it.
        owner: what stands in the file meanwhile, for whoever finds it taken.
        wait: for the other process, rather than fail.

    Raises:
        Taken: another process has it, and nobody wants to wait.
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise Taken(found or "another process") from None
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # on a full disk the lock holds all the same
            os.write(descriptor, owner.encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a fork has it, too
    finally:
        os.close(descriptor)
