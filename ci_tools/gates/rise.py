"""How far a run's loss rose: what divergence is, and behind which step other gates must not look.

S = optimizer steps, R = steps with a finite loss.
"""

from typing import NamedTuple

import numpy as np

from ci_tools.gates import series
from ci_tools.gates.training import F64, Training

DIVERGED = 0.8
"""Height from which on a rise is a divergence."""
NEVER = np.iinfo(np.int64).max


class Rise(NamedTuple):
    """The highest that the loss ever stood above its best so far."""

    height: float
    """In units of what had been gained; NaN where there is no loss to tell."""
    step: int
    """Where it stood highest, or stopped being finite."""
    best_step: int
    """Where it stood lowest before the onset."""
    onset: int
    """First step at which the loss stood as high as a divergence, or as high as it ever did."""
    blew_up: bool = False
    """Whether loss or gradient grew out of the finite numbers."""

    @property
    def diverged_at(self) -> int:
        """First step that belongs to a divergence; `NEVER` without one."""
        return self.onset if self.height > DIVERGED else NEVER


def rise(training: Training) -> Rise:
    """The highest that the loss ever stood, for three steps on end, above its best so far.

    With l the least loss of three consecutive steps, B the least rolling median so far and N the null loss, the height
    is (l − B) / max(|N − B|, |N|/4, min(6 σ, |N|)), σ being the noise of the steps before: 1 where all that was gained
    on N is lost again. The last two terms keep noise from counting while nothing has been gained yet. A loss that ends
    as NaN or infinity has the height of the steps before (`height_before`): small where one operation broke it.
    """
    loss_S, null = training.loss_S, series.null_loss(training)
    bad = first_nonfinite(training)
    ended_broken = training.status == "failed" or not np.isfinite(loss_S[-3:]).any()
    if bad is not None and ended_broken and (before := height_before(training, bad)) > 1:
        step = int(training.step_S[bad])
        return Rise(before, step, int(training.step_S[max(bad - 3, 0)]), int(training.step_S[max(bad - 3, 0)]), True)
    row = np.flatnonzero(np.isfinite(loss_S))
    if len(row) < 3 or not np.isfinite(null):
        return Rise(float("nan"), 0, 0, 0)
    loss, step_R = loss_S[row], training.step_S[row]
    width = 2 * series.window(len(loss_S))
    smooth = series.rolling_median(loss, width)
    smooth[: width - 1] = np.maximum(smooth[: width - 1], null)  # a few low steps are luck, not progress
    best = np.minimum.accumulate(smooth)[2:]
    scale = _scale(loss, null, best)
    height = (np.minimum(np.minimum(loss[2:], loss[1:-1]), loss[:-2]) - best) / scale
    at = int(np.argmax(height))
    onset = int(np.argmax(height >= min(DIVERGED, height[at])))
    best_at = int(np.argmin(smooth[: onset + 1]))
    return Rise(float(height[at]), int(step_R[at + 2]), int(step_R[best_at]), int(step_R[onset]))


def first_nonfinite(training: Training) -> int | None:
    """Row of the first step whose loss or gradient is not finite."""
    bad = np.flatnonzero(~np.isfinite(training.loss_S) | (training.nonfinite_S > 0))
    return int(bad[0]) if len(bad) else None


def height_before(training: Training, row: int) -> float:
    """How far loss or gradient had risen in the three steps before `row`; more than 1 means that it was blowing up.

    The larger of half the loss's height in the unit of `rise` and the decades of the gradient norm over its median.
    """
    past, last = training.loss_S[:row], training.loss_S[max(row - 3, 0) : row]
    last = last[np.isfinite(last)]
    null = series.null_loss(training)
    if not len(last) or not np.isfinite(null):
        return 0.0
    best = np.array([series.median(past[: max(row - 3, 1)])])
    height = float(((last.max() - best) / _scale(past[: max(row - 3, 1)], null, best))[-1]) / 2
    norm_S = series.log10(training.grad_norm_S[:row])
    decades = norm_S[-3:] - series.median(norm_S[: max(row - 3, 1)])
    return max(height, float(np.nan_to_num(decades).max()), 0.0)


def _scale(loss: F64, null: float, best: F64) -> F64:
    """What a rise is measured by at the steps of `best`, which are the last of those of `loss`."""
    noise = np.nan_to_num(series.step_noise(loss, 2 * series.window(len(loss))))[-len(best) :]
    return np.maximum(np.abs(null - best), np.clip(6 * noise, abs(null) / 4 + 1e-12, abs(null) + 1e-12))
