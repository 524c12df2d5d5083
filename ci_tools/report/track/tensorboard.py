"""A run record as TensorBoard event files, by TensorBoard's own writer.

Each attempt of a run is a run of its own in TensorBoard, so that no series has two values at one step: `OUT/NAME`, and
`OUT/NAME/attempt-1` with what followed the first return to a checkpoint.

Law: what stands there afterwards is a function of the record alone; a repeated call replaces it.
"""

import json
import math
from collections import deque
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ci_tools.record.lock import RecordLock
from ci_tools.record.schema import HISTOGRAM_BINS, HISTOGRAM_LOWEST_EXPONENT, RunMeta
from ci_tools.report.track.clock import Clock
from ci_tools.report.track.follow import Rows, follow
from ci_tools.report.track.history import PROBE_LAYERS, PROBE_VALUES, SHADOW_LAYERS, TRACE_LAYERS, TRACE_VALUES
from ci_tools.report.track.labels import config, outcome
from ci_tools.report.track.names import plain

SUFFIX = ".switchback"
"""Ends the names of our event files; no other file is ever deleted."""
SCALARS = {column: name for column, name in TRACE_VALUES.items() if "/" in name}
"""Column of the trace to tag; the others say where in the run a row stands, which TensorBoard's step does."""
_QUEUED = 1000
"""Events that may wait for the writer's thread."""


def export(record: Path, out: Path, live: bool, *, wait: float = 0.0, stop: Callable[[], bool] = lambda: False) -> Path:
    """Write the events of a record to the folder OUT/NAME, which is returned; with `live`, until its run ends.

    Scalars are float32 in TensorBoard: loss and gradients are exact, learning rates and metrics rounded. `wait` and
    `stop` as in `follow`.

    Raises:
        RecordError: no readable record.
        RecordLocked: another process exports to this folder.
        ModuleNotFoundError: the package tensorboard is not installed.
        OSError: the disk refused.
    """
    folder = out / (plain(record.resolve().name) or "run")
    looks = follow(record, live=live, wait=wait, stop=stop)
    first = next(looks)
    lock = RecordLock(folder)
    lock.acquire()
    try:
        _clear(folder)
        with _Board(folder, first.meta) as board:
            for rows in chain([first], looks):
                board.add(rows)
    finally:
        lock.release()
    return folder


def buckets(counts: ArrayLike, largest: float) -> NDArray[np.float64]:
    """A probe's histogram [32] as TensorBoard's buckets [B, 3]: left edge, right edge, count.

    Empty bins at both ends are left out. The last bin, which has no upper edge, ends at `largest`: the gradient's
    largest magnitude, or a power of two where that is not finite.
    """
    count_N = np.asarray(counts, dtype=np.float64)
    edges = 2.0 ** (HISTOGRAM_LOWEST_EXPONENT + np.arange(HISTOGRAM_BINS + 1))
    edges[0] = 0.0
    if edges[-2] < largest < math.inf:
        edges[-1] = largest
    filled = np.flatnonzero(count_N)
    kept = slice(filled[0], filled[-1] + 1) if filled.size else slice(0)
    return np.stack([edges[:-1][kept], edges[1:][kept], count_N[kept]], axis=1)


class _Board:
    """All event files of one run."""

    def __init__(self, folder: Path, meta: RunMeta) -> None:
        self._folder, self._meta, self._clock = folder, meta, Clock(meta)
        self._layers = [plain(layer.name) for layer in meta.layers]
        self._attempts: dict[int, _Events] = {}
        self._waiting: dict[str, deque[dict[str, Any]]] = {"probes": deque(), "evals": deque(), "shadows": deque()}
        self._largest: dict[tuple[int, int], list[float]] = {}

    def __enter__(self) -> Self:
        self._events(0).text(self._clock.start, 0, "config", config(self._meta))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for events in self._attempts.values():
            events.close()

    def add(self, rows: Rows) -> None:
        """Write new rows. What the other streams say of a step waits for its row of the trace, which tells the time."""
        self._meta = rows.meta
        self._clock.update(rows.meta)
        self._write_trace(rows.trace)
        writers = {
            "probes": (0, self._write_probe),
            "evals": (-1, self._write_metric),
            "shadows": (-1, self._write_shadow),
        }
        for name, (shift, write) in writers.items():
            waiting = self._waiting[name]
            waiting += getattr(rows, name).to_pylist()
            while waiting and (when := self._when(waiting[0], shift, rows.ended)) is not None:
                write(when, waiting.popleft())
        if rows.ended:
            self._events(max(self._attempts)).text(self._clock.now, rows.meta.steps, "outcome", outcome(rows.meta))
        for events in self._attempts.values():
            events.flush()

    def _when(self, row: dict[str, Any], shift: int, ended: bool) -> float | None:
        """The time of the step that a row belongs to; of the newest step where that one's own row was lost."""
        step = row["step"] + shift
        when = self._clock.at(step, row["attempt"]) if step >= 0 else self._clock.start
        return self._clock.now if when is None and ended else when

    def _write_trace(self, trace: pa.Table) -> None:
        tags = [*SCALARS.values(), *(f"{TRACE_LAYERS['grad_rms']}/{layer}" for layer in self._layers)]
        columns = [trace.column(column).to_numpy().astype(np.float64) for column in SCALARS]
        table = np.concatenate([np.stack(columns, axis=1), _per_layer(trace, "grad_rms")], axis=1)
        largest = _per_layer(trace, "grad_absmax")
        heads = zip(*(trace.column(name).to_pylist() for name in ("step", "attempt", "step_ms")), strict=True)
        for (step, attempt, step_ms), values, greatest in zip(heads, table, largest, strict=True):
            when = self._clock.tick(step, attempt, step_ms)
            self._events(attempt).row(when, step, tags, values.tolist())
            if (step + 1) % max(self._meta.probe_every, 1) == 0:
                self._largest[step, attempt] = greatest.tolist()

    def _write_probe(self, when: float, row: dict[str, Any]) -> None:
        step, events = row["step"], self._events(row["attempt"])
        largest = self._largest.pop((step, row["attempt"]), [math.inf] * len(self._layers))
        for layer, counts, greatest in zip(self._layers, row["histogram"], largest, strict=True):
            events.histogram(when, step, f"gradients/magnitude/{layer}", buckets(counts, greatest))
        scalars = {name: row[column] for column, name in PROBE_VALUES.items()}
        events.scalars(when, step, scalars | self._by_layer(row, PROBE_LAYERS))

    def _write_metric(self, when: float, row: dict[str, Any]) -> None:
        tag = f"evaluation/{plain(row['split'])}/{plain(row['metric'])}"
        self._events(row["attempt"]).scalars(when, row["step"], {tag: row["value"]})

    def _write_shadow(self, when: float, row: dict[str, Any]) -> None:
        self._events(row["attempt"]).scalars(when, row["step"], self._by_layer(row, SHADOW_LAYERS))

    def _by_layer(self, row: dict[str, Any], columns: dict[str, str]) -> dict[str, float]:
        return {
            f"{name}/{layer}": value
            for column, name in columns.items()
            for layer, value in zip(self._layers, row[column], strict=True)
        }

    def _events(self, attempt: int) -> "_Events":
        if attempt not in self._attempts:
            folder = self._folder / f"attempt-{attempt}" if attempt else self._folder
            self._attempts[attempt] = _Events(folder)
        return self._attempts[attempt]


class _Events:
    """One event file."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder), _QUEUED, filename_suffix=SUFFIX)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # To a TensorBoard that has shown an earlier file of this run: forget what you know.
        restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(event_pb2.Event(session_log=restart))
        self._row: Any = None

    def row(self, when: float, step: int, tags: list[str], values: list[float]) -> None:
        """A row of the trace as one event. Its tags are always the same, so that the event can be filled in again."""
        if self._row is None:
            self._row = self._event(summary=self._summary(value=[self._summary.Value(tag=tag) for tag in tags]))
        self._row.wall_time, self._row.step = when, step
        for slot, value in zip(self._row.summary.value, values, strict=True):
            slot.simple_value = value
        self._writer.add_event(self._row)

    def scalars(self, when: float, step: int, values: dict[str, float]) -> None:
        """Tag to value."""
        self._add(when, step, [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])

    def histogram(self, when: float, step: int, tag: str, bucket_B3: NDArray[np.float64]) -> None:
        """Counts between edges, as `buckets` returns them."""
        from tensorboard.plugins.histogram import metadata

        self._tensor(when, step, tag, bucket_B3, metadata.create_summary_metadata(None, None))

    def text(self, when: float, step: int, tag: str, values: Any) -> None:
        """Plain values as JSON; indented, so that TensorBoard's Markdown shows it as it is."""
        from tensorboard.plugins.text import metadata

        lines = json.dumps(values, indent=1, sort_keys=True).splitlines()
        shown = "\n".join(f"    {line}" for line in lines)
        self._tensor(when, step, tag, [shown.encode()], metadata.create_summary_metadata(None, None))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, and end the writer's thread."""
        self._writer.close()

    def _tensor(self, when: float, step: int, tag: str, values: Any, metadata: Any) -> None:
        from tensorboard.util.tensor_util import make_tensor_proto

        self._add(when, step, [self._summary.Value(tag=tag, tensor=make_tensor_proto(values), metadata=metadata)])

    def _add(self, when: float, step: int, values: list[Any]) -> None:
        self._writer.add_event(self._event(wall_time=when, step=step, summary=self._summary(value=values)))


def _per_layer(trace: pa.Table, column: str) -> NDArray[np.float64]:
    """A list column of the trace as array [N, L]."""
    values = trace.column(column).combine_chunks().flatten()
    layers: int = trace.schema.field(column).type.list_size
    return np.asarray(values, dtype=np.float64).reshape(trace.num_rows, layers)


def _clear(folder: Path) -> None:
    """Delete what an earlier call wrote."""
    for path in [*folder.glob(f"*{SUFFIX}"), *folder.glob(f"attempt-*/*{SUFFIX}")]:
        path.unlink()
