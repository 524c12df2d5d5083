"""Loss and validation metrics over training, thinned to the few points that a comment shows.

K = seeds, P = points, R = rows of one record.
"""

import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ci_tools.errors import SwitchbackError
from ci_tools.gates.training import VALIDATION, latest_attempt
from ci_tools.record.reader import Record
from ci_tools.report.results import CURVE_POINTS, Curve, name

F64 = NDArray[np.float64]
_METRICS = 2
"""Most metrics that are drawn, next to the loss."""


def of(records: Sequence[Record], metrics: Sequence[str]) -> tuple[Curve, ...]:
    """The training loss, and up to two metrics of the validation split: those named in `metrics` first.

    Records whose streams cannot be read are left out; so is a curve of fewer than two points.
    """
    losses, evaluated = [], []
    for record in records:
        try:
            trace, evals = record.final_trace(), latest_attempt(record.evals)
        except SwitchbackError:
            continue
        losses.append((_floats(trace, "step"), _floats(trace, "loss")))
        evaluated.append(evals.filter(pc.field("split") == VALIDATION))
    found = [_curve("loss", "loss", "train", losses)]
    known = dict.fromkeys(metric for evals in evaluated for metric in evals.column("metric").to_pylist())
    ordered = [
        *(metric for metric in metrics if metric in known),
        *(metric for metric in known if metric not in metrics),
    ]
    for metric in ordered[:_METRICS]:
        rows = [evals.filter(pc.field("metric") == metric) for evals in evaluated]
        pairs = [(_floats(one, "step"), _floats(one, "value")) for one in rows]
        found.append(_curve("metric", metric, VALIDATION, pairs))
    return tuple(curve for curve in found if curve)


def _curve(kind: str, what: str, split: str, series: Iterable[tuple[F64, F64]]) -> Curve | None:
    """Mean and range over seeds at the points of the longest series; None where that has fewer than two rows.

    Args:
        kind: loss or metric.
        what: its name.
        split: of the data.
        series: per seed, steps and values [R].
    """
    known = [(step_R, value_R) for step_R, value_R in series if len(step_R)]
    longest = max((step_R for step_R, _ in known), key=len, default=np.zeros(0))
    if len(longest) < 2:
        return None
    parts = min(len(longest), CURVE_POINTS)
    step_P = longest[np.arange(1, parts + 1) * len(longest) // parts - 1]
    value_KP = np.stack([_means_up_to(step_P, *one) for one in known])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of points where no seed has a finite value
        mean_P, low_P, high_P = (over(value_KP, axis=0) for over in (np.nanmean, np.nanmin, np.nanmax))
    return Curve.model_validate(
        {
            "of": kind,
            "name": name(what),
            "split": name(split),
            "seeds": len(known),
            "step": tuple(int(step) for step in step_P),
            **{key: _plain(row) for key, row in (("mean", mean_P), ("low", low_P), ("high", high_P))},
        }
    )


def _means_up_to(step_P: F64, step_R: F64, value_R: F64) -> F64:
    """Mean of the finite values between each point and the one before; NaN where there are none."""
    ends = np.searchsorted(step_R, step_P, side="right")
    parts = (value_R[start:end] for start, end in pairwise([0, *ends]))
    return np.array([part[np.isfinite(part)].mean() if np.isfinite(part).any() else np.nan for part in parts])


def _plain(value_P: F64) -> tuple[float | None, ...]:
    """Rounded to six digits, which is more than a picture shows."""
    return tuple(float(f"{value:.6g}") if np.isfinite(value) else None for value in value_P)


def _floats(table: pa.Table, column: str) -> F64:
    values: F64 = table.column(column).to_numpy().astype(np.float64)
    return values
