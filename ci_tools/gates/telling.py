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
_NEAREST = 8


class Telling(NamedTuple):
    """How well the best single column tells the label."""

    column: int
    """Numeric ones count first."""
    skill: float
    """At most 1; see `best`."""
    second: float
    """That of the best column that is not a copy of it."""
    measure: str


def best(
    numeric_NF: NDArray[np.generic], codes_NC: NDArray[np.generic], label_N: NDArray[np.generic]
) -> Telling | None:
    """The most telling column; None where no two different columns or no frequent enough classes can be compared.

    The skill is, of two classes, the AUC of the column, either way round; of more, the mean over the classes of the AUC
    of the share of that class among the rows nearest in that column; of a quantity, the magnitude of Spearman's
    correlation. (That a column tells one class of many is common: petal lengths tell Iris setosa.)

    A missing value ranks below all others: that it is missing may be what tells. A category stands for the mean label
    of its rows in the other half. Columns whose ranks correlate at 0.99 with the best one are copies of it.
    """
    width = numeric_NF.shape[1] + codes_NC.shape[1]
    chosen = np.random.default_rng(0).permutation(len(label_N))[: max(CELLS // max(width, 1), _FEWEST)]
    numeric, codes = numeric_NF[chosen].astype(np.float64), codes_NC[chosen]
    target_NK, measure = targets(label_N[chosen])
    if not target_NK.shape[1]:
        return None
    ranked = [ranks(np.where(np.isnan(x), -np.inf, x)) for x in numeric.T]
    skill = [_skill(x, target_NK, measure) for x in ranked]
    for column in codes.T:
        means_NK = _means_of_other_half(column, target_NK)
        ranked.append(ranks(means_NK[:, 0]))
        skill.append(_mean_auc(means_NK, target_NK) if measure == "AUC" else _skill(ranked[-1], target_NK, measure))
    order = np.argsort(skill)[::-1].tolist()
    second = next((skill[k] for k in order if abs(correlation(ranked[order[0]], ranked[k])) < _COPY), None)
    return None if second is None else Telling(order[0], skill[order[0]], second, measure)


def targets(label_N: NDArray[np.generic]) -> tuple[F64, str]:
    """What is to be told [N, K], and the measure of it: classes as 0 and 1, one column for two, or a quantity's ranks.

    Classes with fewer than 20 rows are left out.
    """
    values, place, counts = np.unique(label_N, return_inverse=True, return_counts=True)
    if len(values) > MOST_CLASSES or not np.equal(np.mod(values, 1), 0).all():
        return ranks(label_N.astype(np.float64))[:, None], "rank correlation"
    frequent = np.flatnonzero((counts >= _FEWEST) & (counts <= len(label_N) - _FEWEST))
    return (place[:, None] == (frequent[-1:] if len(values) == 2 else frequent)).astype(np.float64), "AUC"


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


def skill(score_N: NDArray[np.generic], label_N: NDArray[np.generic]) -> float | None:
    """AUC of a score of two classes, else Spearman's correlation; None where only one class is left."""
    score, label = ranks(score_N.astype(np.float64)), label_N.astype(np.float64)
    values = np.unique(label)
    if len(values) == 1:
        return None
    return auc(score, label == values[1]) if len(values) == 2 else correlation(score, ranks(label))


def correlation(x: F64, y: F64) -> float:
    """Pearson's, of ranks therefore Spearman's; 0 where a side is constant."""
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 0 else 0.0


def _skill(ranks_N: F64, target_NK: F64, measure: str) -> float:
    if measure != "AUC":
        return abs(correlation(ranks_N, target_NK[:, 0]))
    if target_NK.shape[1] > 1:
        return _mean_auc(_means_of_nearest(ranks_N, target_NK), target_NK)
    return 0.5 + abs(auc(ranks_N, target_NK[:, 0] > 0) - 0.5)


def _mean_auc(score_NK: F64, target_NK: F64) -> float:
    return float(
        np.mean([auc(ranks(score), target > 0) for score, target in zip(score_NK.T, target_NK.T, strict=True)])
    )


def _means_of_nearest(ranks_N: F64, target_NK: F64) -> F64:
    """Of each row, the mean targets of the rows next to it in order, eight on either side; equal ones in any order."""
    order = np.argsort(ranks_N, kind="stable")
    total = np.concatenate([np.zeros((1, target_NK.shape[1])), np.cumsum(target_NK[order], axis=0)])
    place, rows = np.arange(len(order)), len(order)
    first, last = np.maximum(place - _NEAREST, 0), np.minimum(place + _NEAREST + 1, rows)
    means = np.empty_like(target_NK)
    means[order] = (total[last] - total[first] - target_NK[order]) / (last - first - 1)[:, None]
    return means


def _means_of_other_half(codes_N: NDArray[np.generic], target_NK: F64) -> F64:
    """Of each row, the mean targets of its category in the half of the rows to which it does not belong."""
    values, place = np.unique(codes_N, return_inverse=True)
    means, half = np.empty_like(target_NK), np.arange(len(target_NK)) % 2
    for side in (0, 1):
        other = half != side
        count = np.bincount(place[other], minlength=len(values))
        for k, target in enumerate(target_NK.T):
            total = np.bincount(place[other], weights=target[other], minlength=len(values))
            mean = np.divide(total, count, out=np.full(len(values), target.mean()), where=count > 0)
            means[~other, k] = mean[place[~other]]
    return means
