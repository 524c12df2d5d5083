"""Small files between processes: a reader sees the old or the new content, never a part."""

import os
from contextlib import suppress
from pathlib import Path

from ci_tools.errors import explain


def write_atomic(path: Path, text: str, *, durable: bool = True, mode: int = 0o666) -> None:
    """Replace a file whole.

    Args:
        path: of the file; its folder is there.
        text: its content.
        durable: whether it must outlast a power cut; what holds for seconds need not.
        mode: its permissions, of which the process' umask takes some.

    Raises:
        SwitchbackError: the disk refused the write; the old content is still there.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        with open(scratch, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        scratch.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        error.filename = str(path)
        raise explain(error) from None


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
