"""A log of JSON lines that others write and rotate, read on and on.

Law: the values of successive `read`s are the complete lines of the log, each once and in their order, across rotations,
and across a restart of the reader that kept `position`; as long as the reader is not further behind than the rotated
files reach.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, TypeVar

import orjson
from pydantic import Field

from ci_tools.config import Config

KEPT = 4
"""Rotated files that stay beside the log; access.jsonl.1 is the newest."""
AT_ONCE = 8 << 20
"""Bytes that one `read` takes in at most, some 40,000 lines; what is left comes with the next."""
_LONGEST = 1 << 16
"""Bytes of a line that tell it from others."""

T = TypeVar("T")


class Position(Config):
    """How far a log was read."""

    inode: Annotated[int, Field(ge=0)]
    """Of the file, which keeps it when it is rotated."""
    offset: Annotated[int, Field(ge=0)]
    """Bytes of that file that were read: whole lines."""
    first: str = ""
    """SHA-256 of that file's first line: the kernel gives a removed file's inode to the next. Empty: not known."""


class LineLog(ABC, Generic[T]):
    """The log at `path` from `position` on; without one, from the oldest file that is there."""

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self.damaged = 0
        """Whole lines that could not be read."""
        self.gaps = 0
        """Times that the file at the position was gone or cut: lines went unread."""
        self._position = position

    @property
    def position(self) -> Position:
        """Where the next `read` begins; an inode of 0 stands for the oldest file."""
        return self._position or Position(inode=0, offset=0)

    def read(self) -> list[T]:
        """Values of the whole lines that came since, at most those of `AT_ONCE` bytes; empty: nothing new.

        A line whose end is not there yet stays for a later call.
        """
        # Listed before anything is read: once a newer file is there, nothing more comes to the older one.
        files = self._files()
        if not files:
            return []
        at = self._find(files)
        lines = self._take(*files[at])
        while lines == [] and at + 1 < len(files):
            at += 1
            self._position = Position(inode=files[at][1], offset=0)
            lines = self._take(*files[at])
        return self._parse(lines or [])

    def _files(self) -> list[tuple[Path, int]]:
        """The log's files with their inodes, oldest first; none while they are being rotated."""
        paths = [*(rotated(self.path, number) for number in range(KEPT, 0, -1)), self.path]
        # A rotation between two of the looks could hide a file: only what two rounds agree on is so.
        found, again = ([(path, _inode(path)) for path in paths] for _ in range(2))
        return [(path, inode) for path, inode in found if inode] if found == again else []

    def _find(self, files: list[tuple[Path, int]]) -> int:
        """Index of the position's file; where it is gone, the position moves to the start of the oldest."""
        known = self.position
        for at, (path, inode) in enumerate(files):
            if inode == known.inode and _may_be(path, known):
                return at
        self.gaps += known.inode != 0
        self._position = Position(inode=files[0][1], offset=0)
        return 0

    def _take(self, path: Path, inode: int) -> list[bytes] | None:
        """Whole lines of a file from the position on, which moves behind them; None: it was rotated just now."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != inode:
                    return None
                first = _fingerprint(file)
                file.seek(self.position.offset)
                block = file.read(AT_ONCE)
        except FileNotFoundError:
            return None
        end = block.rfind(b"\n") + 1
        if end == 0 and len(block) == AT_ONCE:
            self.damaged += 1  # no line is that long; what follows its end may be sound
            end = len(block)
        self._position = Position(inode=inode, offset=self.position.offset + end, first=first)
        return block[:end].splitlines()

    def _parse(self, lines: Iterable[bytes]) -> list[T]:
        values = []
        for line in lines:
            try:
                value = self._value(orjson.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.damaged += 1
            else:
                if value is not None:
                    values.append(value)
        return values

    @abstractmethod
    def _value(self, raw: dict[str, Any]) -> T | None:
        """Of one line; None where it is none of this log's.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the line is damaged.
        """


def end(path: Path) -> Position | None:
    """Position behind the last whole line; None where there is no such log."""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            first, start = _fingerprint(file), max(stat.st_size - AT_ONCE, 0)
            file.seek(start)
            whole = file.read(stat.st_size - start).rfind(b"\n") + 1
    except FileNotFoundError:
        return None
    return Position(inode=stat.st_ino, offset=start + whole, first=first)


def _may_be(path: Path, known: Position) -> bool:
    """Whether the position's file lies there. One that is rotated just now may: `_take` will see that it has gone."""
    try:
        with path.open("rb") as file:
            same = not known.first or _fingerprint(file) == known.first
            return known.offset == 0 or (same and os.fstat(file.fileno()).st_size >= known.offset)
    except FileNotFoundError:
        return True


def _fingerprint(file: BinaryIO) -> str:
    """SHA-256 of the first line, which tells a log from every other: it has a request's id."""
    return hashlib.sha256(file.readline(_LONGEST)).hexdigest()


def _inode(path: Path) -> int:
    """0: no such file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def rotated(path: Path, number: int) -> Path:
    """Name of the log's `number`th rotated file, 1 for the newest."""
    return path.with_name(f"{path.name}.{number}")


def rotate(path: Path) -> None:
    """Make room for a new log: every file moves one on, the oldest goes. Envoy must then open its log anew."""
    for number in range(KEPT, 0, -1):
        newer = path if number == 1 else rotated(path, number - 1)
        if newer.exists():
            newer.replace(rotated(path, number))
