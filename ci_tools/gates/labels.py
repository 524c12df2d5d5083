"""Whether training examples contradict their labels.

N = training examples, V = validation examples kept, E = evaluations.
"""

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates import series
from ci_tools.gates.reasons import Reason
from ci_tools.gates.rise import NEVER, rise
from ci_tools.gates.training import F64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

FEWEST = 50
"""Examples below which a share tells nothing."""
TAIL = 3.0
"""Robust standard deviations below its class at which an example stands apart."""
REGRESSION_TAIL = 0.9
"""Quantile of the validation errors above which a training error is large."""
Z = 1.96
"""Of a 95 % interval."""
NATURAL = 0.01
"""Share of wrong labels that any data set has."""


@gate(
    limit=0.05,
    unit="share of training examples",
    remedy="look at the training examples with the lowest margins (margins.parquet): correct or drop them",
    floor=0.03,
    calibrated=True,
)
def label_noise(training: Training, label_N: NDArray[np.int64] | None = None) -> Reading:
    """More training examples than natural are learned against their label.

    The margin of an example, averaged over the run, is the area under its margin (Pleiss et al. 2020); below 0 the
    model sides with another label. It does so for hard examples too, but they move neither of these two shares, of
    which the larger is the statistic:

    - against validation: the share of margins below 0 less that in validation, but at most the share of examples
      that, at the null loss each, would explain by how much the training loss ended above the validation loss (lower
      end of its 95 % interval). Of a validation example only p = exp(−loss) is known; its margin counts as below 0
      where p is on average (of log odds) under half-way from 1/K, K being the number of classes, to 1/2. For a
      regression (all margins ≤ 0), the first share is that of training errors above the validation errors' 90 %
      quantile, less 10 %, the quantile being scaled down by the lower quartiles where that of validation is larger
      (of several outputs the loss tells the root mean square, the margin the mean).
    - apart from their class, which needs `label_N` and also sees noise that validation shares: the share of margins
      more than 3 robust standard deviations (of the upper half) under the median of their class, and as far below 0
      as that median is above. Classes with a negative median are not learned and left out.

    Args:
        training: the run.
        label_N: class of each training example, in the order of `margin_N`.

    Raises:
        DataError: there are more or fewer labels than margins, so they cannot be those of the run.
    """
    margin_N = training.margin_N
    if label_N is not None and len(margin_N) not in (0, len(label_N)):
        what = f"{len(label_N)} labels for the margins of {len(margin_N)} training examples"
        raise DataError(what, where=training.name, rule="one per example", fix="run `switchback reproduce`")
    usable_N = margin_N[np.isfinite(margin_N)]
    if len(usable_N) < FEWEST:
        return unmeasured(Reason.FEW_MARGINS, f"the run kept margins of fewer than {FEWEST} training examples")
    if rise(training).diverged_at < NEVER:
        return unmeasured(Reason.DIVERGED)
    gap, apart = _against_validation(training, usable_N, label_N), _apart(margin_N, label_N)
    if gap is None and apart is None:
        return unmeasured(Reason.NO_COUNTERPART)
    against, half_width = gap or (0.0, 0.0)
    shares = {"against validation": against, "apart from their class": apart or 0.0}
    how = max(shares, key=lambda name: shares[name])
    share = max(shares[how], 0.0)
    power = max(half_width, Z / float(np.sqrt(len(usable_N))) / 2)
    found = "No wrong labels found"
    if share > NATURAL:
        found = f"{100 * share:.1f} % of {len(usable_N)} training examples are learned against their label ({how})"
    lowest = np.argsort(np.where(np.isfinite(margin_N), margin_N, np.inf))[:10]
    return Reading(
        statistic=share,
        diagnosis=f"{found}; less than {100 * power:.1f} % would not show.",
        evidence=shares
        | {
            "negative margins": float((usable_N < 0).mean()),
            "smallest share that shows": power,
            "examples with the lowest margins": lowest.tolist(),
        },
    )


def _against_validation(
    training: Training, margin_N: F64, label_N: NDArray[np.int64] | None
) -> tuple[float, float] | None:
    """The share, and the half width of the interval of the gap that bounds it."""
    loss_EV = training.example_loss_EV
    loss_EV = loss_EV[np.isfinite(loss_EV).all(axis=1)] if loss_EV.size else loss_EV
    if loss_EV.size == 0 or loss_EV.shape[1] < FEWEST or not len(training.loss_S):
        return None
    if (margin_N <= 0).all():
        excess = _large_errors(-margin_N, np.sqrt(np.maximum(loss_EV, 0)).mean(axis=0))
    else:
        # Without labels, as many classes as equally frequent ones would have this null loss.
        classes = np.exp(series.null_loss(training)) if label_N is None else len(np.unique(label_N))
        excess = float((margin_N < 0).mean()) - _doubted(loss_EV, max(classes, 2.0))
    gap, half_width = _unexplained_gap(training, loss_EV[-1])
    return min(excess, gap - half_width), half_width


def _doubted(loss_EV: F64, classes: float) -> float:
    """Share of examples whose own class is on average thought less probable than half-way from chance to 1/2."""
    loss_EV = np.clip(loss_EV, 1e-9, 50)
    odds_V = (-loss_EV - np.log(-np.expm1(-loss_EV))).mean(axis=0)
    least = (1 / classes + 0.5) / 2
    return float((odds_V < np.log(least / (1 - least))).mean())


def _unexplained_gap(training: Training, loss_V: F64) -> tuple[float, float]:
    """(training loss − validation loss) / (null loss − validation loss) at the end, and its interval's half width."""
    last = training.loss_S[-2 * series.window(len(training.loss_S)) :]
    last, null = last[np.isfinite(last)], series.null_loss(training)
    if len(last) < 2 or not np.isfinite(null):
        return 0.0, 0.0
    error = np.sqrt(last.var(ddof=1) / len(last) + loss_V.var(ddof=1) / len(loss_V))
    gain = max(null - loss_V.mean(), abs(null) / 4, 1e-12)
    return float((last.mean() - loss_V.mean()) / gain), float(Z * error / gain)


def _large_errors(error_N: F64, error_V: F64) -> float:
    """Share of training errors above the validation errors' upper quantile, beyond the share that is there."""
    quarter_N, quarter_V = np.quantile(error_N, 0.25), np.quantile(error_V, 0.25)
    usual = np.quantile(error_V, REGRESSION_TAIL) * min(quarter_N / quarter_V if quarter_V > 0 else 1.0, 1.0)
    return float((error_N > usual).mean()) - (1 - REGRESSION_TAIL)


def _apart(margin_N: F64, label_N: NDArray[np.int64] | None) -> float | None:
    if label_N is None:
        return None
    apart = 0
    for label in np.unique(label_N):
        margin = margin_N[(label_N == label) & np.isfinite(margin_N)]
        middle = series.median(margin)
        if len(margin) >= FEWEST and middle > 0:
            upper = series.MAD_TO_SIGMA * series.median(margin[margin >= middle] - middle)
            apart += int((margin < min(-middle, middle - TAIL * upper)).sum())
    return apart / len(margin_N)
