"""A bundle's files as bytes: read so that nothing outside of the folder is followed, opened or waited for."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ci_tools.errors import BundleError, explain
from ci_tools.files import sync

MIB = 1024 * 1024
LARGEST = 2048 * MIB - 1
"""Bytes of a model: an ONNX file cannot be larger than protobuf's messages."""
LARGEST_TEXT = 4 * MIB
"""Bytes of any other file."""
MOST_FILES = 64
REGULAR = "a bundle holds regular files only"


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder, through which its files are read even if it is moved meanwhile.

    Raises:
        BundleError: no folder there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError("no bundle here", where=path, fix="name a folder that `switchback bundle` wrote") from None
    except OSError as error:
        raise explain(error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names(folder: int, where: Path) -> set[str]:
    """Of the folder's entries, whatever they are.

    Raises:
        BundleError: more than any bundle has.
    """
    found: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            found.add(entry.name)
            if len(found) > MOST_FILES:
                raise BundleError("holds too many files", where=where, rule=f"at most {MOST_FILES}")
    return found


def read(folder: int, name: str, where: Path, largest: int = LARGEST_TEXT) -> bytes:
    """The content of one file.

    Raises:
        BundleError: it is missing, is no regular file, or has more than `largest` bytes.
    """
    file = where / name
    try:
        # Without blocking: a named pipe would have the opener wait for a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise BundleError("is missing", where=file, rule="a bundle is whole", fix="copy it again, or pack it") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            what = "is a symbolic link" if error.errno == errno.ELOOP else "is no regular file"
            raise BundleError(what, where=file, rule=REGULAR) from None
        raise explain(error) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BundleError("is no regular file", where=file, rule=REGULAR)
        if found.st_size > largest:
            raise BundleError(f"has {found.st_size:,} bytes", where=file, rule=f"at most {largest:,}")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(found.st_size + 1)  # one more than it had: growth shows in its digest
    except OSError as error:
        raise explain(error) from None
    finally:
        os.close(descriptor)


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder of these files, which nobody may change, and have them on the disk.

    Raises:
        OSError: the disk refused.
    """
    path.mkdir()
    for name, content in files.items():
        descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync(path)
