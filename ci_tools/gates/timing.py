"""Whether steps take as long as they should.

S = optimizer steps, W = windows of ordinary steps.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import series
from ci_tools.gates.reasons import Reason
from ci_tools.gates.training import F64, I64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

FEWEST_STEPS = 24
PERIODS = range(2, 9)
"""Distances, in steps, at which a slow worker may come round again."""
FEWEST_PER_PHASE = 5
WINDOWS = 20
FEWEST_PER_SIDE = 0.25
"""Share of the windows that must lie before a change of speed, and behind it."""
NEARLY_ALL = 0.9
"""Share of the windows behind a change that must be slow."""


@gate(
    limit=1.75,
    unit="times the usual step time",
    remedy="look at what else runs on the machine, at its clock and temperature, and at each rank on its own",
)
def stragglers(training: Training) -> Reading:
    """Steps that become slow and stay so, or are slow again and again at the same distance.

    Steps next to a checkpoint, an evaluation, a probe, a shadow step or the start of an epoch are left out. Of the
    rest, medians over windows are cut in two at every place that leaves a quarter of them on either side; the ratio is
    that which nine tenths of the windows behind the cut reach, over the median of those before it, and the largest
    counts. A slow start, and a disturbance that ends, are no fault. Against every j-th step being slow (2 ≤ j ≤ 8),
    the median of each phase modulo j is divided by that of the other phases. The statistic is the larger of the two.

    The limit is not calibrated: what a slow step costs is the same on every machine, and the rare disturbances that
    make the tail of clean runs are too rare to be measured by a few of them.
    """
    row = np.flatnonzero(ordinary(training))
    if len(row) < FEWEST_STEPS:
        told = f"only {len(row)} ordinary steps were timed; {FEWEST_STEPS} tell something"
        return unmeasured(Reason.FEW_TIMED, told, steps=len(row))
    step_ms, data_ms, step = training.step_ms_S[row], training.data_ms_S[row], training.step_S[row]
    width = max(len(row) // WINDOWS, 3)
    starts = range(0, len(row) - width + 1, width)
    window_W = np.array([series.median(step_ms[i : i + width]) for i in starts])
    cut, usual, lasting = _worst_cut(window_W)
    period, phase, periodic = _worst_phase(step, step_ms)
    if lasting >= periodic:
        first = int(step[cut * width])
        blamed = np.arange(len(row)) >= cut * width
        sentence = (
            f"From step {first} on, nine in ten windows of {width} steps took at least {lasting:.2f} times the "
            f"{usual:.3g} ms of a step before."
        )
    else:
        blamed = step % period == phase
        sentence = (
            f"Every {period}th step (step modulo {period} = {phase}) took {periodic:.2f} times as long as the others."
        )
    blame = _data_share(step_ms, data_ms, blamed)
    return Reading(
        statistic=max(lasting, periodic),
        diagnosis=sentence + (f" {100 * blame:.0f} % of the excess is waiting for data." if blame > 0.5 else ""),
        remedy="speed up the loader: more workers, prefetching, or a local copy of the data" if blame > 0.5 else "",
        evidence={
            "usual step, ms": usual,
            "steps looked at": len(row),
            "lasting ratio": lasting,
            "periodic ratio": periodic,
            "period": period,
            "share of the excess spent on data": blame,
        },
    )


def ordinary(training: Training) -> NDArray[np.bool_]:
    """Steps that nothing but training has a part in, [S]."""
    step_S = training.step_S
    # What follows a step (an evaluation, a checkpoint, a shadow step) is counted in the time of the next.
    after = [series_.step_E for series_ in training.evals.values()] + [training.shadow_step_H, training.example_step_E]
    special = np.concatenate([*after, training.probe_step_P, training.probe_step_P + 1, step_S[:1]])
    busy_S = np.isin(step_S, special)
    if training.checkpoint_every > 0:
        busy_S |= step_S % training.checkpoint_every == 0
    if training.steps_per_epoch > 1:
        busy_S |= step_S % training.steps_per_epoch == 0
    good_S: NDArray[np.bool_] = ~busy_S & np.isfinite(training.step_ms_S) & (training.step_ms_S > 0)
    return good_S


def _worst_cut(window_W: F64) -> tuple[int, float, float]:
    """Index of the first slow window, the usual time before it in ms, and the ratio; those of the worst cut."""
    least = max(1, math.ceil(FEWEST_PER_SIDE * len(window_W)))
    found = []
    for cut in range(least, len(window_W) - least + 1):
        usual = max(series.median(window_W[:cut]), 1e-9)
        found.append((cut, usual, float(np.quantile(window_W[cut:], 1 - NEARLY_ALL)) / usual))
    return max(found, key=lambda one: one[2])


def _worst_phase(step: I64, step_ms: F64) -> tuple[int, int, float]:
    """Period, phase and ratio of the slowest phase to the others; a ratio of 1 where none has enough steps."""
    worst = (2, 0, 1.0)
    for period in PERIODS:
        for phase in range(period):
            inside = step % period == phase
            if min(inside.sum(), (~inside).sum()) < FEWEST_PER_PHASE:
                continue
            ratio = series.median(step_ms[inside]) / max(series.median(step_ms[~inside]), 1e-9)
            if ratio > worst[2]:
                worst = (period, phase, ratio)
    return worst


def _data_share(step_ms: F64, data_ms: F64, slow: NDArray[np.bool_]) -> float:
    """Share of the slow steps' excess over the others that they waited for data, in [0, 1]."""
    excess = series.median(step_ms[slow]) - series.median(step_ms[~slow])
    waiting = series.median(data_ms[slow]) - series.median(data_ms[~slow])
    return min(max(waiting / excess, 0.0), 1.0) if excess > 0 and np.isfinite(waiting) else 0.0
