"""The ledger: what happened in a release service, in order, written before it is acted on.

An SQLite file in WAL mode, so that others read while the controller writes. Events are only ever added, and each is
chained to the one before by its digest:

    sha256 = SHA-256(canonical JSON of {seq, at, kind, actor, release, body, previous}),    previous of the first = 0…0

Law: whatever byte of whatever event but the last ones is edited, removed, inserted or moved, `verify` names the first
event that does not fit. Events missing at the end leave a chain that fits; therefore the digest of the last event also
stands in a file beside the ledger, written after each commit. Who rewrites the whole chain and that file leaves no
trace: against that, keep a digest of the ledger's head elsewhere.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from ci_tools.config import Config
from ci_tools.errors import SwitchbackError
from ci_tools.files import write_atomic
from ci_tools.release.control import Event

GENESIS = "0" * 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, release TEXT NOT NULL,
    body TEXT NOT NULL, sha256 TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
_INSERT = "INSERT INTO events (seq, at, kind, actor, release, body, sha256) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT seq, at, kind, actor, release, body, sha256 FROM events "
_RESTORE = "put back a copy of ledger.db and its .head file, or move both away: then the service starts anew"
Row = tuple[int, str, str, str, str, str, str]


class Head(Config):
    """The last event, as the file beside the ledger keeps it."""

    seq: int = 0
    sha256: str = GENESIS


class Ledger:
    """The events of one service. Safe with one writer and any number of readers; a writer is used by one thread at a
    time.
    """

    def __init__(self, path: Path, *, readonly: bool = False, wall: Callable[[], datetime] | None = None) -> None:
        """Open, or begin where there is none.

        Raises:
            SwitchbackError: it cannot be opened, or is not a ledger.
        """
        self.path = path
        self._wall = wall or (lambda: datetime.now(UTC))
        if readonly and not path.exists():
            raise SwitchbackError("no ledger there", where=path, fix="start the service: `switchback serve`")
        try:
            mode = "ro" if readonly else "rwc"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA busy_timeout = 5000")
            if not readonly:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_SCHEMA)
            # An edit may leave bytes that are no text; `verify` names the event that has them.
            self._db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        except sqlite3.Error as error:
            raise _refused(error, path) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @property
    def head(self) -> Head:
        """The last event's number and digest."""
        rows = self._rows(_SELECT + "ORDER BY seq DESC LIMIT 1", ())
        return Head(seq=rows[0][0], sha256=rows[0][-1]) if rows else Head()

    def append(self, kind: str, actor: str, release: str, body: Mapping[str, Any]) -> Event:
        """Add an event; when this returns, it is on the disk.

        Raises:
            SwitchbackError: the disk refuses, or another process wrote; then nothing was added, unless it says so.
        """
        head = self.head
        self._anchor(head)
        text = _canonical(dict(body))
        fields = (head.seq + 1, self._wall().isoformat(timespec="milliseconds"), kind, actor, release, text)
        digest = _digest(fields, head.sha256)
        try:
            self._db.execute(_INSERT, (*fields, digest))
        except sqlite3.Error as error:
            raise _refused(error, self.path) from None
        self._anchor(Head(seq=fields[0], sha256=digest))
        return _event((*fields, digest))

    def events(self, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events behind number `after`, oldest first.

        Raises:
            SwitchbackError: one of them is none, as only an edit can make it.
        """
        found, at = [], after
        try:
            for row in self._rows(_SELECT + "WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)):
                at = row[0]
                found.append(_event(row))
        except (ValueError, TypeError, RecursionError):
            raise self._tampered(at, "cannot be read: it was changed") from None
        return found

    def verify(self) -> int:
        """How many events there are, all of which fit.

        Raises:
            SwitchbackError: names the first event that does not.
        """
        anchor, last, previous = self._anchored(), 0, GENESIS
        for row in self._rows(_SELECT + "ORDER BY seq", ()):
            if row[0] != last + 1:
                raise self._tampered(last + 1, f"is missing: {row[0]} follows {last}")
            if not _fits(row, previous):
                raise self._tampered(row[0], "does not fit: it was changed or put in, or the one before it was")
            last, previous = row[0], row[-1]
            if anchor and anchor.seq == last and anchor.sha256 != previous:
                raise self._tampered(last, f"is not the one that {self._head_file.name} names")
        known = anchor.seq if anchor else 0
        if last < known:
            raise self._tampered(last + 1, f"is missing at the end: there were {known}")
        if last > known + 1:
            raise self._tampered(known + 1, f"is not vouched for: {self._head_file.name} names {known} events")
        return last

    @property
    def _head_file(self) -> Path:
        return self.path.with_suffix(".head")

    def _anchor(self, head: Head) -> None:
        if head.seq and self._anchored() != head:
            write_atomic(self._head_file, head.model_dump_json())

    def _anchored(self) -> Head | None:
        try:
            return Head.model_validate_json(self._head_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            raise SwitchbackError("cannot be read", where=self._head_file, rule="it names the ledger's last event",
                                  fix=_RESTORE) from None  # fmt: skip

    def _rows(self, query: str, values: tuple[int, ...]) -> list[Row]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _refused(error, self.path) from None

    def _tampered(self, seq: int, what: str) -> SwitchbackError:
        rule = "every event is chained to the one before it, and none is ever changed"
        return SwitchbackError(f"event {seq} {what}", where=self.path, rule=rule, fix=_RESTORE)


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(fields: tuple[int, str, str, str, str, str], previous: str) -> str:
    seq, at, kind, actor, release, body = fields
    whole = {"seq": seq, "at": at, "kind": kind, "actor": actor, "release": release, "previous": previous}
    return hashlib.sha256(_canonical(whole | {"body": json.loads(body)}).encode()).hexdigest()


def _fits(row: Row, previous: str) -> bool:
    """Whether an event is chained to the one before; its body must also be written in the one way."""
    try:
        return _canonical(json.loads(row[5])) == row[5] and _digest(row[:6], previous) == row[6]
    except (ValueError, TypeError, RecursionError):
        return False


def _event(row: Row) -> Event:
    seq, at, kind, actor, release, body, digest = row
    return Event(seq=seq, at=at, kind=kind, actor=actor, release=release, body=json.loads(body), sha256=digest)


def _refused(error: sqlite3.Error, path: Path) -> SwitchbackError:
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return SwitchbackError("the disk is full", where=path, rule="nothing is done that is not written first",
                               fix="free some disk space")  # fmt: skip
    if isinstance(error, sqlite3.IntegrityError):
        return SwitchbackError("another process writes it", where=path, fix="end that one: a ledger has one writer")
    return SwitchbackError(f"cannot be used ({error})", where=path, fix=_RESTORE)
