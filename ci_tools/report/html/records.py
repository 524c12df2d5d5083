"""The run records under a report, as far as they are there: what is missing or damaged is said in words.

S = optimizer steps, L = layers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ci_tools.errors import RecordError
from ci_tools.gates.run import Run
from ci_tools.gates.training import latest_attempt
from ci_tools.record import Record, open_record, schema
from ci_tools.record.schema import RunMeta
from ci_tools.report.html.thin import I64

_ENDS = {"running": "was still running", "preempted": "was preempted", "replayed": "is a replay that ended"}
"""Of a status that is no verb."""
_PARTS = (
    ("trace", schema.TRACE, "no steps"),
    ("probes", schema.PROBES, "no gradient probes"),
    ("evals", schema.EVALS, "no evaluations"),
)
"""Part of a record, its file, and what a run without rows of it recorded."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The record of one seed; a table has no rows where the record has no such part."""

    name: str
    meta: RunMeta | None
    """None where there is no record, or none that can be read."""
    trace: pa.Table
    """Without rows that a return to a checkpoint abandoned, as are the others."""
    probes: pa.Table
    evals: pa.Table
    missing: tuple[str, ...]
    """One sentence per part that is not there, or damaged."""

    @property
    def status(self) -> str:
        """Of the run; `unreadable` where nothing tells it."""
        return self.meta.status if self.meta else "unreadable"

    @property
    def layers(self) -> tuple[str, ...]:
        """In registration order."""
        return tuple(layer.name for layer in self.meta.layers) if self.meta else ()

    @property
    def steps(self) -> int:
        """One more than the last step that the trace holds."""
        return int(ints(self.trace, "step")[-1]) + 1 if self.trace.num_rows else 0


def read(run: Run) -> tuple[Seed, ...]:
    """One per seed, the release's first; nothing is shown of a part that is damaged, and none of another is lost."""
    return tuple(_read(run, seed) for seed in run.seeds)


def floats(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column of numbers, [S], or of lists of L of them, [S, L]; float64 where the record keeps that."""
    column = table.column(name).combine_chunks()
    if not pa.types.is_nested(column.type):
        values: NDArray[np.float32] = column.to_numpy(zero_copy_only=False)
        return values
    shape: list[int] = [len(column)]
    while pa.types.is_nested(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    found: NDArray[np.float32] = column.to_numpy(zero_copy_only=False).reshape(shape)
    return found


def ints(table: pa.Table, name: str) -> I64:
    """A column of whole numbers."""
    values: I64 = table.column(name).to_numpy().astype(np.int64)
    return values


def _read(run: Run, seed: int) -> Seed:
    name = f"seed-{seed}"
    path = run.root / "runs" / name
    if not (path / schema.META).exists():
        return Seed(name=name, meta=None, missing=(f"{name} left no run record",), **_empty(0))
    try:
        record = open_record(path)
    except RecordError as error:
        return Seed(name=name, meta=None, missing=(_damaged(name, error),), **_empty(0))
    parts, missing = _empty(len(record.meta.layers)), []
    for part, file, words in _PARTS:
        try:
            if record.meta.status == "finished" or (path / file).exists():
                parts[part] = record.final_trace() if part == "trace" else latest_attempt(getattr(record, part))
            if not parts[part].num_rows:
                missing.append(f"{name} recorded {words}")
        except RecordError as error:
            missing.append(_damaged(name, error))
    if record.meta.status != "finished":
        missing.insert(0, _unfinished(name, record))
    return Seed(name=name, meta=record.meta, missing=tuple(missing), **parts)


def _damaged(name: str, error: RecordError) -> str:
    return f"{name}: record damaged ({error.what})"


def _unfinished(name: str, record: Record) -> str:
    meta, done = record.meta, f"{record.meta.steps:,} of {record.meta.total_steps:,} steps"
    why = f": {meta.reason}" if meta.reason else ""
    return f"{name} {_ENDS.get(meta.status, meta.status)} after {done}{why}"


def _empty(layers: int) -> dict[str, Any]:
    return {
        "trace": schema.trace_schema(layers).empty_table(),
        "probes": schema.probe_schema(layers).empty_table(),
        "evals": schema.EVAL_SCHEMA.empty_table(),
    }
