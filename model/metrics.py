"""How good scores are, as plain numbers and curves.

Shapes: N = rows. `label_N` holds 0 and 1 with both present; `score_N` holds probabilities of the positive class.
Rows with equal scores are never told apart, so no metric depends on the order of rows.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

Floats = NDArray[np.float64]
NAMES = ("average_precision", "roc_auc", "log_loss", "calibration_error", "recall_at_precision")


class Operating(NamedTuple):
    """The decision rule that catches most positives at a wanted precision."""

    recall: float
    """Share of positives caught; 0 where no threshold reaches the precision."""
    threshold: float | None
    """Scores at or above it are flagged; None where no threshold reaches the precision."""


class Calibration(NamedTuple):
    """One entry per non-empty bin, in order of score."""

    predicted: Floats
    """Mean score."""
    observed: Floats
    """Share of positives."""
    n: NDArray[np.int64]
    """Rows."""


def quick(label_N: NDArray[Any], score_N: NDArray[Any]) -> dict[str, float]:
    """The figures that training follows; they need no setting."""
    return {
        "average_precision": float(average_precision_score(label_N, score_N)),
        "roc_auc": float(roc_auc_score(label_N, score_N)),
        "log_loss": log_loss(label_N, score_N),
    }


def measure(label_N: NDArray[Any], score_N: NDArray[Any], *, precision_floor: float, bins: int) -> dict[str, float]:
    """All of `NAMES`; finite for finite scores."""
    return {
        **quick(label_N, score_N),
        "calibration_error": calibration_error(label_N, score_N, bins),
        "recall_at_precision": operating_point(label_N, score_N, precision_floor).recall,
    }


def log_loss(label_N: NDArray[Any], score_N: NDArray[Any]) -> float:
    """Mean negative log-likelihood, in nats; scores are float32 and cannot be surer than its epsilon."""
    return float(row_losses(label_N, score_N).mean())


def row_losses(label_N: NDArray[Any], score_N: NDArray[Any], positive_weight: float = 1.0) -> Floats:
    """Negative log-likelihood of each row, in nats, times its weight, [N]."""
    epsilon = float(np.finfo(np.float32).eps)
    p_N = np.clip(score_N.astype(np.float64), epsilon, 1 - epsilon)
    losses: Floats = -np.where(label_N > 0, positive_weight * np.log(p_N), np.log1p(-p_N))
    return losses


def calibration(label_N: NDArray[Any], score_N: NDArray[Any], bins: int) -> Calibration:
    """The reliability curve over equal-mass bins; rows with equal scores share the bin of the first of them."""
    rank_N = np.searchsorted(np.sort(score_N), score_N)
    bin_N = rank_N * bins // len(score_N)
    n = np.bincount(bin_N, minlength=bins)
    kept = n > 0
    predicted = np.bincount(bin_N, score_N.astype(np.float64), bins)[kept] / n[kept]
    observed = np.bincount(bin_N, label_N.astype(np.float64), bins)[kept] / n[kept]
    return Calibration(predicted, observed, n[kept])


def calibration_error(label_N: NDArray[Any], score_N: NDArray[Any], bins: int) -> float:
    """Expected calibration error, Σ_b n_b/N · |observed_b - predicted_b|, over equal-mass bins.

    Equal mass rather than equal width, since it estimates with less bias, above all where positives are rare:
    Roelofs, Cain, Shlens and Mozer, "Mitigating Bias in Calibration Error Estimation", AISTATS 2022.
    """
    predicted, observed, n = calibration(label_N, score_N, bins)
    return float(np.sum(n * np.abs(observed - predicted)) / len(score_N))


def operating_point(label_N: NDArray[Any], score_N: NDArray[Any], precision_floor: float) -> Operating:
    """Highest recall whose precision is at least `precision_floor`, and a threshold that gives it.

    The threshold lies halfway to the next lower score, so that rounding a score cannot flip a decision.
    """
    precision, recall, threshold = precision_recall_curve(label_N, score_N.astype(np.float64))
    reached = np.flatnonzero(precision[:-1] >= precision_floor)
    if not len(reached):
        return Operating(0.0, None)
    # Of the thresholds with that recall, the highest has the best precision.
    best = reached[recall[reached] == recall[reached[0]]][-1]
    below = threshold[best - 1] if best > 0 else 0.0
    return Operating(float(recall[best]), float((threshold[best] + below) / 2))


def precision_at(label_N: NDArray[Any], score_N: NDArray[Any], recall_P: Floats) -> Floats:
    """Precision at the highest threshold that catches at least each share of the positives."""
    precision, recall, _ = precision_recall_curve(label_N, score_N)
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    picked: Floats = precision[np.searchsorted(recall, recall_P - 1e-12)]
    return picked


def true_positive_rate_at(label_N: NDArray[Any], score_N: NDArray[Any], false_positive_rate_P: Floats) -> Floats:
    """Highest true positive rate whose false positive rate is at most each given one."""
    fpr, tpr, _ = roc_curve(label_N, score_N, drop_intermediate=False)
    picked: Floats = tpr[np.searchsorted(fpr, false_positive_rate_P + 1e-12, side="right") - 1]
    return picked
