"""Metrics of binary classifiers with their derivative by the weight of each row, so that the noise of the drawn rows is
known without resampling.

Law: with d_i the derivative of a metric by the weight of row i, Σ_i d_i = 0, and Σ_i d_i e_i is the covariance of two
models' metrics over repeated draws of the rows (the infinitesimal jackknife of Efron, "The Jackknife, the Bootstrap and
Other Resampling Plans", 1982, chapter 6: the bootstrap's answer to first order, without its Monte Carlo noise). For
the area under the ROC curve this is the covariance of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988).

N = rows, G = groups of rows with equal scores, R = resamples. `label_N` holds 0 and 1, `score_N` probabilities. Rows
with equal scores are never told apart.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Labels = NDArray[Any]


class Measured(NamedTuple):
    """One metric on one set of rows."""

    value: float
    derivative_N: F64
    """By the weight of each row."""


class Calibration(NamedTuple):
    """The reliability curve over equal-mass bins, one entry per bin that holds rows, in order of score."""

    predicted: F64
    """Mean score."""
    observed: F64
    """Share of positives."""
    rows: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: Σ_b n_b/N · |observed_b - predicted_b|."""
        return float(np.sum(self.rows * np.abs(self.observed - self.predicted)) / np.sum(self.rows))


def average_precision(label_N: Labels, score_N: F64) -> Measured:
    """Σ_g p_g/P · precision_g, the step sum over distinct scores from the highest, as in scikit-learn."""
    order_N, start_G, group_N = _groups(-score_N)
    positive_N = (label_N > 0).astype(np.float64)
    positives_G = np.add.reduceat(positive_N[order_N], start_G)
    rows_G = np.diff(np.append(start_G, len(order_N)))
    caught_G, flagged_G = np.cumsum(positives_G), np.cumsum(rows_G)
    precision_G, total = caught_G / flagged_G, caught_G[-1]
    value = float(positives_G @ precision_G / total)
    # A row weighs in its own group's recall and, from its group on, in every precision.
    gain_G = _sum_from(positives_G / flagged_G)
    loss_G = _sum_from(positives_G * precision_G / flagged_G)
    derivative_N = positive_N * ((precision_G + gain_G)[group_N] - value) - loss_G[group_N]
    return Measured(value, derivative_N / total)


def roc_auc(label_N: Labels, score_N: F64) -> Measured:
    """Share of (positive, negative) pairs in the right order, ties as half."""
    order_N, start_G, group_N = _groups(score_N)
    positive_N = (label_N > 0).astype(np.float64)
    positives_G = np.add.reduceat(positive_N[order_N], start_G)
    negatives_G = np.diff(np.append(start_G, len(order_N))) - positives_G
    beaten_G = np.cumsum(negatives_G) - negatives_G / 2
    beating_G = _sum_from(positives_G) - positives_G / 2
    positives, negatives = positives_G.sum(), negatives_G.sum()
    value = float(positives_G @ beaten_G / (positives * negatives))
    share_N = np.where(label_N > 0, beaten_G[group_N] / negatives, beating_G[group_N] / positives)
    return Measured(value, (share_N - value) / np.where(label_N > 0, positives, negatives))


def log_loss(label_N: Labels, score_N: F64) -> Measured:
    """Mean negative log-likelihood, in nats; scores are float32 and cannot be surer than its epsilon."""
    epsilon = float(np.finfo(np.float32).eps)
    p_N = np.clip(score_N, epsilon, 1 - epsilon)
    loss_N = -np.where(label_N > 0, np.log(p_N), np.log1p(-p_N))
    value = float(loss_N.mean())
    return Measured(value, (loss_N - value) / len(loss_N))


METRICS: dict[str, Callable[[Labels, F64], Measured]] = {
    "average_precision": average_precision,
    "roc_auc": roc_auc,
    "log_loss": log_loss,
}
"""What gates can compute from scores; other metrics come from the run records, without their rows."""


def calibration(label_N: Labels, score_N: F64, bins: int) -> Calibration:
    """The reliability curve; rows with equal scores share the bin of the first of them."""
    bin_N = np.searchsorted(np.sort(score_N), score_N) * bins // len(score_N)
    rows = np.bincount(bin_N, minlength=bins)
    kept = rows > 0
    predicted = np.bincount(bin_N, score_N, bins)[kept] / rows[kept]
    observed = np.bincount(bin_N, label_N.astype(np.float64), bins)[kept] / rows[kept]
    return Calibration(predicted, observed, rows[kept])


def calibrated_errors(score_N: F64, bins: int, resamples: int, seed: int = 0) -> F64:
    """[R] calibration errors that the same scores show where every score is its row's true probability.

    Labels are drawn from the scores: the consistency resampling of Bröcker and Smith, "Increasing the Reliability of
    Reliability Diagrams", Weather and Forecasting 22 (2007).
    """
    draw = np.random.default_rng(seed)
    ascending_N = np.sort(score_N)
    bin_N = np.searchsorted(ascending_N, ascending_N) * bins // len(score_N)
    start_B = np.flatnonzero(np.diff(bin_N, prepend=-1))
    expected_B = np.add.reduceat(ascending_N, start_B)
    threshold_N = ascending_N.astype(np.float32)
    errors = []
    for _ in range(resamples):
        drawn_N = draw.random(len(score_N), dtype=np.float32) < threshold_N
        errors.append(np.abs(np.add.reduceat(drawn_N, start_B, dtype=np.int64) - expected_B).sum() / len(score_N))
    return np.array(errors)


def _groups(key_N: F64) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Order of the rows by key, where each group of equal keys starts in that order, and each row's group."""
    order_N = np.argsort(key_N, kind="stable")
    new_N = np.diff(key_N[order_N], prepend=np.nan) != 0
    group_N = np.empty(len(key_N), np.intp)
    group_N[order_N] = np.cumsum(new_N) - 1
    return order_N, np.flatnonzero(new_N), group_N


def _sum_from(value_G: F64) -> F64:
    """Sum over this and all later groups."""
    summed: F64 = np.cumsum(value_G[::-1])[::-1]
    return summed
