"""What went wrong in a run, and from when on, as a rule that any other run can be put to.

S = optimizer steps of a run's first attempt.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ci_tools.errors import RecordError
from ci_tools.record.reader import Record

F64 = NDArray[np.float64]

PAST = 50
"""Steps before the onset that say what was normal."""
HORIZON = 24
"""Steps after the onset that a trial runs on for, if the symptom lasts so long."""
TAIL = 8
"""Last steps of a trial; the symptom is there if most of them show it."""
OUTLIER = 6.0
"""Robust z of log gradient norm from which a step is suspect."""
SUSPECTS = 4
"""Most steps whose batches are replaced, besides the onset's own."""


@dataclass(frozen=True)
class Course:
    """How a run, or a trial, went: its first attempt, since later ones began under other conditions."""

    step_S: NDArray[np.int64]
    loss_S: F64
    """Infinite where loss or gradient is not finite."""
    grad_norm_S: F64

    @classmethod
    def of(cls, record: Record) -> "Course":
        """Read a trace."""
        trace = record.trace.filter(pa.array(record.trace.column("attempt").to_numpy() == 0))
        loss_S, norm_S = (trace.column(name).to_numpy().astype(np.float64) for name in ("loss", "grad_norm"))
        broken_S = ~np.isfinite(loss_S) | (trace.column("nonfinite").to_numpy() > 0)
        return cls(trace.column("step").to_numpy(), np.where(broken_S, np.inf, loss_S), norm_S)

    @classmethod
    def empty(cls) -> "Course":
        """Of a run that took no step."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))

    def loss(self, end: int) -> float:
        """Median loss of the last steps before `end`; NaN where there are none."""
        last = self.loss_S[self.step_S < end][-TAIL:]
        return float(np.median(last)) if len(last) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """What went wrong, as a rule that any trial can be put to: its median loss before `end` is above `level`."""

    onset: int
    """Step at which it began."""
    reason: str
    end: int
    """Steps after which a trial is judged."""
    level: float
    """In the loss's own unit."""
    suspects: tuple[int, ...]
    """Steps whose batches may have caused it: the onset, the step before it, and outliers in gradient norm."""
    outlier: int | None
    """The first of these outliers."""
    excess: float
    """Gradient norm of the outlier over the median before it."""
    usual_norm: float
    """Median gradient norm before the onset; NaN where nothing came before."""

    def shown_by(self, course: Course) -> bool:
        """Whether a run or trial shows it."""
        return course.loss(self.end) > self.level

    def as_in(self, course: Course) -> "Symptom":
        """The symptom, judged where it is worst in `course` if it passes by itself before the end."""
        seen = [end for end in range(self.onset + 1, self.end + 1) if course.loss(end) > self.level]
        return self if self.shown_by(course) or not seen else replace(self, end=max(seen, key=course.loss))


def find_symptom(record: Record, course: Course, onset: int | None = None) -> Symptom:
    """When the trouble began, what was normal before, and which steps are suspect.

    Raises:
        RecordError: there is no trouble in the record, or no such step.
    """
    null = record.meta.null_loss or float("inf")
    told, reason = (onset, "as asked") if onset is not None else _told(record) or _seen(record, course, null)
    row = int(np.count_nonzero(course.step_S < told))
    if row == len(course.step_S):
        raise RecordError(f"its trace has no step {told}", where=record.path, rule="the onset must be recorded")
    while row and course.loss_S[row - 1] > 2 * null:  # a limit that holds only after warm-up was reported late
        row -= 1
    outliers = _outliers(course, row)
    suspects = sorted({max(row - 1, 0), row, *outliers})
    past_S = slice(max(row - PAST, 0), suspects[0])
    norms, losses = course.grad_norm_S[past_S], course.loss_S[past_S]
    usual_norm = float(np.median(norms)) if len(norms) else float("nan")
    return Symptom(
        onset=int(course.step_S[row]),
        reason=reason,
        end=min(int(course.step_S[row]) + HORIZON, record.meta.total_steps),
        level=_level(losses, course.loss_S, row, record.meta.null_loss),
        suspects=tuple(int(course.step_S[i]) for i in suspects),
        outlier=int(course.step_S[outliers[0]]) if outliers else None,
        excess=float(course.grad_norm_S[outliers[0]] / usual_norm) if outliers else 1.0,
        usual_norm=usual_norm,
    )


def _told(record: Record) -> tuple[int, str] | None:
    """Onset and reason as the recorder noted them: of the first recovery, or of the failure."""
    if record.meta.recoveries:
        first = record.meta.recoveries[0]
        return first.onset_step, first.reason
    noted = re.search(r"diverged at step (\d+): ([^;]*)", record.meta.reason)
    return (int(noted[1]), noted[2]) if noted else None


def _seen(record: Record, course: Course, null: float) -> tuple[int, str]:
    """The first of a lasting series of steps whose loss is not finite, far above the past or the null loss."""
    loss_S = course.loss_S
    high_S = (loss_S > 2 * null) | np.isinf(loss_S)
    if len(loss_S) > PAST:
        past_SP = np.lib.stride_tricks.sliding_window_view(loss_S[:-1], PAST)
        middle_S = np.median(past_SP, axis=1)
        with np.errstate(invalid="ignore"):  # a past that is mostly infinite tells nothing
            spread_S = 1.4826 * np.median(np.abs(past_SP - middle_S[:, None]), axis=1)
            high_S[PAST:] |= loss_S[PAST:] > middle_S + 10 * np.maximum(spread_S, 0.01 * np.abs(middle_S))
    for row in np.flatnonzero(high_S):
        if high_S[row : row + TAIL].mean() > 0.5:
            return int(course.step_S[row]), f"loss {loss_S[row]:.4g}"
    rule = "a run is diagnosed that failed, recovered, or whose loss rose far above its past for good"
    raise RecordError("shows no divergence", where=record.path, rule=rule, fix="name the step with --step")


def _outliers(course: Course, row: int) -> list[int]:
    """Rows up to `row` whose gradient norm stands out from the window before it, in order."""
    start = max(row - PAST, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.log(course.grad_norm_S[start : row + 1]), nan=np.inf, posinf=np.inf)
    finite = size[np.isfinite(size)]
    if len(finite) < TAIL:
        return []
    middle = np.median(finite)
    spread = max(1.4826 * float(np.median(np.abs(finite - middle))), 0.1)
    return [start + int(i) for i in np.flatnonzero(size > middle + OUTLIER * spread)[:SUSPECTS]]


def _level(past: F64, loss_S: F64, row: int, null: float | None) -> float:
    """Half of the way from the past loss to that after the onset, which counts no higher than a fresh model's."""
    fresh = null if null is not None else float(loss_S[0])
    past = past[np.isfinite(past)]
    if len(past) < TAIL:
        return 2 * fresh if null is not None else fresh
    middle = float(np.median(past))
    top = min(float(np.median(loss_S[row:])), max(fresh, float(np.quantile(past, 0.9))))
    return middle + max((top - middle) / 2, 3 * 1.4826 * float(np.median(np.abs(past - middle))))
