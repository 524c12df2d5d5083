"""The prediction log: one line of JSON per request that the model was asked, answered or not.

    {"id": "…", "t": 1760000000.1, "bundle": "…", "mirror": false, "scores": [0.25], "ms": 1.5}

`scores` is the decision's output, one number per row: null where there was no valid answer, or the manifest names no
decision. `t` is when the request came, in seconds since 1970. A thread writes, several times in 100 ms: requests never
wait for the disk, and what a full disk refuses is counted and lost.
"""

import errno
import os
import threading
from pathlib import Path
from typing import NamedTuple

import orjson

from ci_tools.errors import ConfigError

FLUSH_SECONDS = 0.05
_NONE = -1
_LONGEST = 200_000
"""Lines that may wait for the disk."""


class Prediction(NamedTuple):
    """One line, as the loop hands it over."""

    id: str
    t: float
    mirror: bool
    scores: list[float] | None
    ms: float


class PredictionLog:
    """A file that is appended to, and renamed to `.1` where it grows too large."""

    def __init__(self, path: Path, digest: str, *, rotate_bytes: int) -> None:
        """Open the file and start the thread.

        Raises:
            ConfigError: it cannot be written, for another reason than a full disk.
        """
        self._path, self._digest, self._rotate_bytes = path, digest, rotate_bytes
        self.dropped = 0
        """Lines that were lost."""
        self._lines: list[Prediction] = []
        self._ended = threading.Event()
        self._file = _NONE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise ConfigError(
                    f"cannot be written ({error.strerror})", where=path, fix="name another file"
                ) from None
        self._thread = threading.Thread(target=self._write_on, name="predictions", daemon=True)
        self._thread.start()

    def add(self, line: Prediction) -> None:
        """Hand over one line; called in one thread only."""
        if len(self._lines) < _LONGEST:
            self._lines.append(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what is left."""
        self._ended.set()
        self._thread.join(timeout=2.0)

    def _write_on(self) -> None:
        while not self._ended.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        count = len(self._lines)
        if not count:
            return
        # Lines that come meanwhile stay behind those that are taken.
        lines, self._lines[:count] = self._lines[:count], []
        text = b"".join(self._render(line) for line in lines)
        try:
            self._follow()
            self._append(text)
        except OSError:
            self.dropped += count

    def _render(self, line: Prediction) -> bytes:
        shown = {
            "id": line.id,
            "t": line.t,
            "bundle": self._digest,
            "mirror": line.mirror,
            "scores": line.scores,
            "ms": round(line.ms, 3),
        }
        return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)

    def _append(self, text: bytes) -> None:
        """All of it or nothing: half a line would spoil the next."""
        before = os.fstat(self._file).st_size
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def _follow(self) -> None:
        """Begin a new file where there is none, this one is full, or somebody took it away."""
        if self._file == _NONE:
            self._file = self._open()
            return
        now = os.fstat(self._file)
        if now.st_size >= self._rotate_bytes:
            os.replace(self._path, f"{self._path}.1")
        elif self._path.exists() and os.path.samestat(now, os.stat(self._path)):
            return
        old, self._file = self._file, self._open()
        os.close(old)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
