"""Small files written whole or not at all: a reader sees the old or the new content, never a part."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ci_tools.errors import explain


def write_atomic(path: Path, text: str, *, durable: bool = True, mode: int = 0o666) -> None:
    """Replace a file's text.

    Args:
        path: of the file; its folder is there.
        text: its content.
        durable: whether it must outlast a power cut; what holds for seconds need not.
        mode: its permissions, of which the process' umask takes some.

    Raises:
        SwitchbackError: the disk refused the write; the old content is still there.
    """

    def write(scratch: Path) -> None:
        with open(scratch, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(text)

    try:
        replace(path, write, durable=durable)
    except OSError as error:
        error.filename = str(path)
        raise explain(error) from None


def replace(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Have `write` make a file beside `path`, then put it in its place.

    Raises:
        OSError: the disk refused; the old content is still there, and no part of the new.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        write(scratch)
        if durable:
            sync(scratch)
        scratch.replace(path)
        if durable:
            sync(path.parent)
    except OSError:
        with suppress(OSError):
            scratch.unlink()
        raise


def sync(path: Path) -> None:
    """Have a file's content, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
