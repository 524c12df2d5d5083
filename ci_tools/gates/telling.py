"""Which single column tells the label.

N = rows, F = columns, K = targets.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

CELLS = 2_000_000
"""Rows times columns that are ranked at most; fewer rows are enough to see that a column tells nearly all."""
MOST_CLASSES = 100
"""Distinct whole numbers up to which a label is a class and not a quantity."""
_FEWEST = 20
_COPY = 0.99


class Telling(NamedTuple):
    """How well the best single column tells the label."""

    column: int
    skill: float
    """AUC either way round (of one class against the rest), 0.5 to 1; for a quantity |Spearman|, 0 to 1."""
    second: float
    """That of the best column that is not a copy of it, for the same target."""
    measure: str
    """`AUC` or `rank correlation`."""


def best(
    numeric_NF: NDArray[np.generic], codes_NC: NDArray[np.generic], label_N: NDArray[np.generic]
) -> Telling | None:
    """The most telling column; None where no two different columns or no frequent enough classes can be compared.

    A missing value ranks below all others: that it is missing may be what tells. A category ranks by the mean label of
    the other half of its rows. Columns whose ranks correlate at 0.99 with the best one are copies of it.
    """
    width = numeric_NF.shape[1] + codes_NC.shape[1]
    stride = -(-len(label_N) * width // CELLS)
    numeric, codes, label = numeric_NF[::stride].astype(np.float64), codes_NC[::stride], label_N[::stride]
    fixed_FN = [ranks(np.where(np.isnan(x), -np.inf, x)) for x in numeric.T]
    found = [_of_target(fixed_FN, codes, target, measure) for target, measure in targets(label)]
    return max((one for one in found if one is not None), key=lambda one: one.skill, default=None)


def targets(label_N: NDArray[np.generic]) -> list[tuple[F64, str]]:
    """What is to be told: one class against the rest for each frequent class (one of two), or a quantity's ranks."""
    values, place, counts = np.unique(label_N, return_inverse=True, return_counts=True)
    if len(values) > MOST_CLASSES or not np.equal(np.mod(values, 1), 0).all():
        return [(ranks(label_N.astype(np.float64)), "rank correlation")]
    frequent = [k for k, count in enumerate(counts) if _FEWEST <= count <= len(label_N) - _FEWEST]
    return [((place == k).astype(np.float64), "AUC") for k in (frequent[-1:] if len(values) == 2 else frequent)]


def ranks(x: NDArray[np.float64]) -> F64:
    """1 to N; equal values share the mean of their ranks."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: F64 = (last - (counts - 1) / 2)[place]
    return shared


def auc(ranks_N: F64, positive_N: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the rank-sum statistic over its maximum (Hanley and McNeil 1982)."""
    ones = int(positive_N.sum())
    return (float(ranks_N[positive_N].sum()) - ones * (ones + 1) / 2) / (ones * (len(ranks_N) - ones))


def skill(score_N: NDArray[np.generic], label_N: NDArray[np.generic]) -> float:
    """AUC of a score of two classes, else Spearman's correlation; NaN where only one class is left."""
    score, label = ranks(score_N.astype(np.float64)), label_N.astype(np.float64)
    values = np.unique(label)
    if len(values) == 1:
        return float("nan")
    return auc(score, label == values[1]) if len(values) == 2 else correlation(score, ranks(label))


def correlation(x: F64, y: F64) -> float:
    """Pearson's, of ranks therefore Spearman's; 0 where a side is constant."""
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 0 else 0.0


def _of_target(fixed_FN: list[F64], codes_NC: NDArray[np.generic], target_N: F64, measure: str) -> Telling | None:
    ranked = [*fixed_FN, *(ranks(_mean_of_other_half(codes, target_N)) for codes in codes_NC.T)]
    if measure == "AUC":
        skill = [abs(auc(x, target_N > 0) - 0.5) + 0.5 for x in ranked]
    else:
        skill = [abs(correlation(x, target_N)) for x in ranked]
    order = np.argsort(skill)[::-1]
    first = int(order[0]) if len(order) else 0
    second = next((skill[k] for k in order[1:] if abs(correlation(ranked[first], ranked[k])) < _COPY), None)
    return None if second is None else Telling(first, skill[first], second, measure)


def _mean_of_other_half(codes_N: NDArray[np.generic], target_N: F64) -> F64:
    """Of each row, the mean target of its category in the half of the rows to which it does not belong."""
    values, place = np.unique(codes_N, return_inverse=True)
    mean, half = np.full(len(target_N), target_N.mean()), np.arange(len(target_N)) % 2
    for side in (0, 1):
        other = half != side
        count = np.bincount(place[other], minlength=len(values))
        total = np.bincount(place[other], weights=target_N[other], minlength=len(values))
        rate = np.divide(total, count, out=np.full(len(values), target_N.mean()), where=count > 0)
        mean[half == side] = rate[place[half == side]]
    return mean
