"""What is new in a run record since the last look, until its run has ended.

Law: the rows that `follow` yields, put together, are the streams of the record, each row once and in their order.
Law: a row of the trace comes no earlier than the other streams' rows about the steps before its own.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ci_tools.errors import RecordError
from ci_tools.record import schema
from ci_tools.record.lock import is_written
from ci_tools.record.log import read_behind
from ci_tools.record.reader import Record, open_record
from ci_tools.record.schema import RunMeta

EVERY = 1.0
"""Seconds between two looks; the writer hands over a block of rows every few seconds."""

_ID = re.compile("[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """New rows of each stream, columns as in `ci_tools.record.schema`; any of them may be empty."""

    meta: RunMeta
    """run.json as it was when the rows were read."""
    trace: pa.Table
    probes: pa.Table
    evals: pa.Table
    losses: pa.Table
    shadows: pa.Table
    ended: bool
    """Whether nothing will follow; true of the last ones only."""


def follow(
    record: Path,
    *,
    live: bool = True,
    wait: float = 0.0,
    every: float = EVERY,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Rows]:
    """Yield what is there, then what is added, until the run ends; at least once.

    A run has ended when its status says so, or when it is `running` but no process writes the record. Rows that a
    crash tore are left out, and rows that a resumed run writes again are not yielded again.

    Args:
        record: folder of the record. That of a finished run is checked against its SHA-256.
        live: whether to wait for more; otherwise one look is all.
        wait: seconds to wait for a record that is not there yet.
        every: seconds between two looks. A look at files that did not change reads none of them.
        stop: asked before each look; the look after it says yes is the last.
        sleep: what to wait with.

    Raises:
        RecordError: no record there, of another schema version, damaged, without an id, or replaced by another run
            meanwhile.
    """
    while wait > 0 and not (record / schema.META).exists() and not stop():
        sleep(every)
        wait -= every
    now = open_record(record)
    if not _ID.fullmatch(now.meta.id):  # trackers take it for a name
        rule, fix = "an id has 12 hex digits", "train again"
        raise RecordError(f"run.json: {now.meta.id[:40]!a} is no id", where=record, rule=rule, fix=fix)
    if now.meta.status == "finished":
        yield _whole(now)
        return
    streams, known, before = _streams(record, now.meta), now.meta, None
    while True:
        last = not live or stop()
        if not last and _signature(record) == before and is_written(record):
            sleep(every)
            continue
        # The state first: a writer that is seen to have ended adds nothing to the streams that are read behind it.
        meta = open_record(record).meta
        last = last or meta.status != "running" or not is_written(record)
        if meta.id != known.id:
            raise RecordError("was replaced by another run", where=record, fix="follow the new one")
        if meta.resumes != known.resumes:
            known = meta
            for stream in streams.values():
                stream.rewind()
        seen = _signature(record)
        if last or seen != before:
            rows = {name: stream.new() for name, stream in streams.items()}
            if open_record(record).meta.resumes != meta.resumes:
                continue  # cut and continued in between: what was just read may be neither old nor new
            for stream in streams.values():
                stream.accept()
            before = seen
            if last or any(table.num_rows for table in rows.values()):
                yield Rows(meta=meta, ended=last, **rows)
        if last:
            return
        sleep(every)


class _Stream:
    """One stream of rows, read from where the last reading ended."""

    def __init__(self, path: Path, expected: pa.Schema) -> None:
        self.path, self._expected = path, expected
        self._told = 0
        self.rewind()

    def new(self) -> pa.Table:
        """Whole rows that were not accepted yet; a resumed run may first have cut some that were."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._position:
            self.rewind()
        if size == 0:
            return self._expected.empty_table()
        table, position = read_behind(self.path, self._position)
        if table.schema != self._expected:
            raise RecordError(f"{self.path.name} has other columns than its schema version", where=self.path.parent)
        self._next = position, self._rows + table.num_rows
        return table.slice(max(self._told - self._rows, 0))

    def rewind(self) -> None:
        """The rows may have been cut and others put behind them: count them anew, from the first."""
        self._position = self._rows = 0
        self._next = (0, 0)

    def accept(self) -> None:
        """What `new` returned has been told."""
        self._position, self._rows = self._next
        self._told = max(self._told, self._rows)


def _streams(record: Path, meta: RunMeta) -> dict[str, _Stream]:
    """The trace comes first, so that what belongs to its rows is on the disk when the other streams are read."""
    layers = len(meta.layers)
    expected = {
        schema.TRACE: schema.trace_schema(layers),
        schema.PROBES: schema.probe_schema(layers),
        schema.EVALS: schema.EVAL_SCHEMA,
        schema.LOSSES: schema.LOSS_SCHEMA,
        schema.SHADOWS: schema.shadow_schema(layers),
    }
    return {Path(name).stem: _Stream(record / name, columns) for name, columns in expected.items()}


def _whole(record: Record) -> Rows:
    names = [Path(name).stem for name in schema.STREAMS]
    return Rows(meta=record.meta, ended=True, **{name: getattr(record, name) for name in names})


def _signature(record: Path) -> tuple[tuple[int, int, int], ...]:
    """Changes whenever run.json or a stream does."""
    stats = [path.stat() for name in (schema.META, *schema.STREAMS) if (path := record / name).exists()]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
