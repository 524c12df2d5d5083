"""Loss and validation metrics over training, thinned to the few points that a comment shows.

K = seeds, P = points, R = rows of one record.
"""

from collections.abc import Mapping, Sequence
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
Bool = NDArray[np.bool_]
Series = tuple[F64, F64]
"""Steps and values [R] of one seed."""
_METRICS = 2
"""Most metrics that are drawn, next to the loss."""
_EARLY = 100
"""Most seeds that are told to have ended early."""


def of(records: Sequence[tuple[int, Record]], metrics: Sequence[str]) -> tuple[Curve, ...]:
    """The training loss, and up to two metrics of the validation split: those named in `metrics` first.

    Records whose streams cannot be read are left out; so is a curve of fewer than two points.

    Args:
        records: each with its seed.
        metrics: names, in the order in which they matter.
    """
    losses: dict[int, Series] = {}
    evaluated: dict[int, pa.Table] = {}
    for seed, record in records:
        try:
            trace, evals = record.final_trace(), latest_attempt(record.evals)
        except SwitchbackError:
            continue
        losses[seed] = _floats(trace, "step"), _floats(trace, "loss")
        evaluated[seed] = evals.filter(pc.field("split") == VALIDATION)
    found = [_curve("loss", "loss", "train", losses)]
    known = dict.fromkeys(metric for evals in evaluated.values() for metric in evals.column("metric").to_pylist())
    ordered = [
        *(metric for metric in metrics if metric in known),
        *(metric for metric in known if metric not in metrics),
    ]
    for metric in ordered[:_METRICS]:
        rows = {seed: evals.filter(pc.field("metric") == metric) for seed, evals in evaluated.items()}
        series = {seed: (_floats(one, "step"), _floats(one, "value")) for seed, one in rows.items()}
        found.append(_curve("metric", metric, VALIDATION, series))
    return tuple(curve for curve in found if curve)


def _curve(kind: str, what: str, split: str, series: Mapping[int, Series]) -> Curve | None:
    """Mean and range over seeds at the points of the longest series; None where that has fewer than two rows.

    A point holds no number where a seed that got so far has none: the others' mean would hide that it diverged.

    Args:
        kind: loss or metric.
        what: its name.
        split: of the data.
        series: by seed.
    """
    known = {seed: one for seed, one in series.items() if len(one[0])}
    longest = max((step_R for step_R, _ in known.values()), key=len, default=np.zeros(0))
    if len(longest) < 2:
        return None
    parts = min(len(longest), CURVE_POINTS)
    step_P = longest[np.arange(1, parts + 1) * len(longest) // parts - 1]
    value_KP = np.stack([_means_up_to(step_P, *one) for one in known.values()])
    there_KP = np.stack([_there(step_P, *one) for one in known.values()])
    whole_P = there_KP.any(axis=0) & (np.isfinite(value_KP) | ~there_KP).all(axis=0)
    kept_KP = np.ma.masked_array(value_KP, ~(there_KP & whole_P))
    with np.errstate(over="ignore"):  # of values whose sum no float holds
        over_P = {"mean": kept_KP.mean(axis=0), "low": kept_KP.min(axis=0), "high": kept_KP.max(axis=0)}
    ends = {seed: int(step_R[-1]) for seed, (step_R, _) in known.items()}
    early = [seed for seed, step in ends.items() if step <= step_P[-2]]
    return Curve.model_validate(
        {
            "of": kind,
            "name": name(what),
            "split": name(split),
            "seeds": len(known),
            "early": tuple({"seed": seed, "step": ends[seed]} for seed in early[:_EARLY]),
            "step": tuple(int(step) for step in step_P),
            **{key: _plain(row.filled(np.nan)) for key, row in over_P.items()},
        }
    )


def _means_up_to(step_P: F64, step_R: F64, value_R: F64) -> F64:
    """Mean of the finite values between each point and the one before; NaN where there are none."""
    parts = _parts(step_P, step_R, value_R)
    return np.array([part[np.isfinite(part)].mean() if np.isfinite(part).any() else np.nan for part in parts])


def _there(step_P: F64, step_R: F64, value_R: F64) -> Bool:
    """Whether the seed has rows up to each point; also behind its last where that was not finite any more."""
    there_P = np.array([len(part) > 0 for part in _parts(step_P, step_R, value_R)])
    if not np.isfinite(value_R[-1]):
        there_P[np.searchsorted(step_P, step_R[-1]) :] = True
    return there_P


def _parts(step_P: F64, step_R: F64, value_R: F64) -> list[F64]:
    """The values between each point and the one before."""
    ends = np.searchsorted(step_R, step_P, side="right")
    return [value_R[start:end] for start, end in pairwise([0, *ends])]


def _plain(value_P: F64) -> tuple[float | None, ...]:
    """Rounded to six digits, which is more than a picture shows."""
    return tuple(float(f"{value:.6g}") if np.isfinite(value) else None for value in value_P)


def _floats(table: pa.Table, column: str) -> F64:
    values: F64 = table.column(column).to_numpy().astype(np.float64)
    return values
