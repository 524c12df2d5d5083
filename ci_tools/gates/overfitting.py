"""Whether the model went on to fit its training examples at the expense of the others.

E = evaluations, V = validation examples kept, K = the last evaluations looked at.
"""

from typing import NamedTuple

import numpy as np

from ci_tools.gates import series
from ci_tools.gates.reasons import Reason
from ci_tools.gates.training import F64, I64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

LAST = 3
"""Evaluations at the end that must all be worse than the best."""
CONFIDENCE = 0.9
"""Of the interval over validation examples."""


class Excess(NamedTuple):
    """Validation loss above that of the best evaluation, per evaluation, in the loss's unit."""

    step_E: I64
    loss_E: F64
    """Mean validation loss."""
    error_E: F64
    """Standard error of the difference to the best evaluation, paired over examples."""
    best: int
    """Index of the best evaluation."""


@gate(
    limit=0.05,
    unit="share of the validation loss's gain",
    remedy="stop at the best evaluation (early stopping), or add data, weight decay, dropout or augmentation",
    calibrated=True,
)
def overfitting(training: Training) -> Reading:
    """The validation loss ended above its best while the training loss did not.

    Per evaluation after the best: excess = (validation loss − best) − max(0, rise of the training loss since then),
    over the gain (null loss − best, at least a quarter of the null loss). The statistic is the least over the last
    three evaluations (of two at least) of the lower end of the excess's interval (paired t over validation examples),
    so neither one noisy evaluation nor a bump that comes down again counts; the interval reaches up to the least of
    the upper ends.
    """
    found = _excess(training)
    if found is None:
        return unmeasured(Reason.FEW_EVALUATIONS)
    after = np.arange(found.best + 1, len(found.step_E))[-LAST:]
    gain = _gain(training, found)
    if not np.isfinite(gain):
        return unmeasured(Reason.NO_VALIDATION)
    best_step, best_loss = int(found.step_E[found.best]), float(found.loss_E[found.best])
    evidence = {"best step": best_step, "best loss": best_loss, "last loss": float(found.loss_E[-1]), "gain": gain}
    if len(after) < 2:
        sentence = f"The validation loss was best at step {best_step}, at the end or one evaluation before."
        return Reading(statistic=0.0, diagnosis=sentence, evidence=evidence)
    excess = found.loss_E[after] - best_loss - _training_rise(training, best_step, found.step_E[after])
    error = found.error_E[after]
    low, high = float(np.min(excess - error)) / gain, float(np.min(excess + error)) / gain
    return Reading(
        statistic=low,
        interval=(low, high),
        diagnosis=(
            f"The validation loss was best at step {best_step} ({best_loss:.4g}) and stood at {found.loss_E[-1]:.4g} "
            f"at the end: at least {100 * max(low, 0):.1f} % of its gain was lost again while the training loss did "
            f"not rise. The checkpoint of step {best_step} is unharmed."
        ),
        evidence=evidence | {"steps": found.step_E[after].tolist(), "excess": excess.tolist(), "error": error.tolist()},
    )


def _excess(training: Training) -> Excess | None:
    """From losses per example where the loop kept them, else from their mean."""
    from scipy.special import stdtrit

    step_E, loss_EV = training.example_step_E, training.example_loss_EV
    if len(step_E) >= LAST and loss_EV.size and np.isfinite(loss_EV).all():
        mean_E = loss_EV.mean(axis=1)
        best, count = int(np.argmin(mean_E)), loss_EV.shape[1]
        quantile = stdtrit(max(count - 1, 1), (1 + CONFIDENCE) / 2)
        error_E = (loss_EV - loss_EV[best]).std(axis=1, ddof=1 if count > 1 else 0) / np.sqrt(count)
        return Excess(step_E, mean_E, quantile * error_E, best)
    one = training.series("validation", "loss", "log_loss")
    if one is None or len(one.step_E) < LAST or not np.isfinite(one.value_E).all():
        return None
    # Without examples the noise of an evaluation is that about a line through its neighbours.
    noise = series.spread(np.diff(one.value_E, n=2)) / np.sqrt(6)
    return Excess(one.step_E, one.value_E, np.full(len(one.step_E), noise), int(np.argmin(one.value_E)))


def _gain(training: Training, found: Excess) -> float:
    """What validation gained on the null loss, but at least a quarter of the latter."""
    null = training.null_loss if np.isfinite(training.null_loss) else float(found.loss_E[0])
    return max(null - float(found.loss_E[found.best]), abs(null) / 4)


def _training_rise(training: Training, best_step: int, step_K: I64) -> F64:
    """How much the smoothed training loss rose from the best evaluation to each of the later ones; 0 where it fell."""
    smooth_S = series.rolling_median(training.loss_S, series.window(len(training.loss_S)))

    def at(steps: I64) -> F64:
        row = np.clip(np.searchsorted(training.step_S, steps - 1), 0, len(smooth_S) - 1)
        return smooth_S[row]

    if not len(smooth_S):
        return np.zeros(len(step_K))
    return np.nan_to_num(np.maximum(at(step_K) - at(np.array([best_step])), 0.0))
