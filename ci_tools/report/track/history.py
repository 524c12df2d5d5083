"""The streams of a record as one row of named values per optimizer step, which is how trackers think.

Row i is row i of the trace, with what the other streams know of the same step. A diverged attempt is part of the trace,
so that rows are numbered by i; `step` is one of the values.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ci_tools.record.schema import HISTOGRAM_BINS, HISTOGRAM_LOWEST_EXPONENT, RunMeta
from ci_tools.report.track.clock import Clock
from ci_tools.report.track.follow import Rows
from ci_tools.report.track.names import plain

EDGES = tuple(float(HISTOGRAM_LOWEST_EXPONENT + k) for k in range(HISTOGRAM_BINS + 1))
"""log2 of the edges of a probe's bins: the first holds all below its upper edge, the last all above its lower one."""
LOSS_BINS = 64
"""Of the histogram of an evaluation's losses per example."""

TRACE_VALUES = {
    "step": "step",
    "epoch": "epoch",
    "samples_seen": "samples_seen",
    "attempt": "attempt",
    "loss": "training/loss",
    "lr": "training/lr",
    "grad_norm": "training/grad_norm",
    "clip_coefficient": "training/clip_coefficient",
    "nonfinite": "training/nonfinite_layers",
    "step_ms": "time/step_ms",
    "data_ms": "time/data_ms",
}
"""Column of the trace to the name of its value in every row. Batch digests and layers stay in the record."""
PROBE_VALUES = {name: f"noise/{name}" for name in ("noise_scale", "gradient_square", "gradient_variance")}
PROBED = frozenset(PROBE_VALUES.values())
PROBE_LAYERS = {
    "update_ratio": "updates/ratio",
    "dead_share": "units/dead_share",
    "cosine_previous": "gradients/cosine_previous",
    "half_cosine": "gradients/half_cosine",
}
TRACE_LAYERS = {"grad_rms": "gradients/rms", "grad_absmax": "gradients/absmax"}
"""Told where a probe was taken: every layer at every step would be more than a tracker draws."""
SHADOW_LAYERS = {"error": "numerics/error", "sensitivity": "numerics/sensitivity"}


@dataclass(frozen=True)
class Histogram:
    """Counts of [B] bins between [B + 1] edges."""

    counts: list[int]
    edges: list[float]


@dataclass(frozen=True)
class Point:
    """One row."""

    number: int
    """Row of the trace, from 0."""
    at: float
    """Seconds since 1970, as `Clock` tells them."""
    values: Mapping[str, Any]
    """Name to number or `Histogram`."""


class History:
    """Joins streams as they grow; the last row of the trace waits, because more may still be told about its step."""

    def __init__(self, meta: RunMeta) -> None:
        self._layers = [plain(layer.name) for layer in meta.layers]
        self._clock = Clock(meta)
        self._rows, self._at = 0, self._clock.start
        self._waiting: dict[str, Any] | None = None
        self._waiting_layers: dict[str, list[float]] = {}
        self._told: defaultdict[tuple[int, int], dict[str, Any]] = defaultdict(dict)

    def add(self, new: Rows) -> Iterator[Point]:
        """Rows that are now complete."""
        self._note(new)
        self._clock.update(new.meta)
        columns = {name: new.trace.column(name).to_numpy() for name in TRACE_VALUES}
        layered = {name: _matrix(new.trace, name, len(self._layers)) for name in TRACE_LAYERS}
        for i in range(new.trace.num_rows):
            yield from self._release()
            row = {name: columns[column][i].item() for column, name in TRACE_VALUES.items()}
            self._waiting, self._at = row, self._clock.tick(row["step"], row["attempt"], row["time/step_ms"])
            self._waiting_layers = {name: values[i].tolist() for name, values in layered.items()}
        if new.ended:
            yield from self._release()

    def _release(self) -> Iterator[Point]:
        if self._waiting is None:
            return
        told = self._told.pop((self._waiting["step"], self._waiting["attempt"]), {})
        if told.keys() >= PROBED:
            told |= self._per_layer(self._waiting_layers, TRACE_LAYERS)
        yield Point(self._rows, self._at, self._waiting | told)
        self._rows, self._waiting = self._rows + 1, None

    def _note(self, new: Rows) -> None:
        """Keep what is said about steps until their rows of the trace are there."""
        for row in new.probes.to_pylist():
            values: dict[str, Any] = {name: row[column] for column, name in PROBE_VALUES.items()}
            for layer, counts in zip(self._layers, row["histogram"], strict=True):
                values[f"gradients/log2_magnitude/{layer}"] = Histogram(counts, list(EDGES))
            self._told[row["step"], row["attempt"]] |= values | self._per_layer(row, PROBE_LAYERS)
        for row in new.shadows.to_pylist():
            self._told[_step_before(row), row["attempt"]] |= self._per_layer(row, SHADOW_LAYERS)
        for table, values_of in ((new.evals, _evaluated), (new.losses, _losses)):
            for row in table.to_pylist():
                self._told[_step_before(row), row["attempt"]] |= values_of(row)

    def _per_layer(self, row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
        return {
            f"{name}/{layer}": value
            for column, name in columns.items()
            for layer, value in zip(self._layers, row[column], strict=True)
        }


def _step_before(row: Mapping[str, Any]) -> int:
    """Evaluations and shadow steps count completed steps; what came before the first step is told with it."""
    return max(int(row["step"]) - 1, 0)


def _evaluated(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"evaluation/{plain(row['split'])}/{plain(row['metric'])}": row["value"]}


def _losses(row: Mapping[str, Any]) -> dict[str, Any]:
    losses = np.asarray(row["loss"], np.float64)
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        return {}
    counts, edges = np.histogram(finite, bins=LOSS_BINS)
    return {f"evaluation/{plain(row['split'])}/loss_per_example": Histogram(counts.tolist(), edges.tolist())}


def _matrix(table: pa.Table, name: str, layers: int) -> NDArray[np.float32]:
    """A column of lists as an array [rows, L]."""
    flat = table.column(name).combine_chunks().flatten()
    values: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, layers)
    return values
