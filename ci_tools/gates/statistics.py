"""Means and differences under two sources of noise: the seed of a training, and the test rows that all seeds share.

Which seeds were drawn and which rows were drawn are crossed: every seed is measured on every row. A mean over K seeds
then has the variance

    s²/K + c,    s² = variance of one seed's value, c = mean covariance of two seeds' values over draws of the rows.

Adding the rows' whole variance in place of c would count the noise of (seed, row) pairs twice, since it is in s² too.
This is the analysis of readers and cases in diagnostic imaging, with seeds for readers and test rows for cases:
Obuchowski and Rockette (Communications in Statistics 24, 1995); degrees of freedom by Hillis (Statistics in Medicine
26, 2007).

K = seeds, N = test rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
POWER = 0.8
"""Probability with which an effect called detectable is detected."""
MOST_SEEDS = 1_000
"""Beyond it a number of seeds is no longer a proposal."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean or a difference, with where its noise comes from."""

    value: float
    seeds: int
    """Per arm, of the smaller arm."""
    seed_variance: float
    """Of `value`, from other seeds; 0 where a single seed cannot tell."""
    row_variance: float
    """Of `value`, from other test rows."""
    seed_freedom: float
    """Degrees of freedom of `seed_variance`."""

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(self.seed_variance + self.row_variance)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the whole variance (Satterthwaite; Hillis 2007, equation 6)."""
        if self.seed_variance == 0:
            return math.inf
        return self.seed_freedom * ((self.seed_variance + self.row_variance) / self.seed_variance) ** 2

    def interval(self, tail: float) -> tuple[float, float]:
        """Where the true value lies; beyond either end with probability `tail`."""
        return self.value - self.reach(tail), self.value + self.reach(tail)

    def reach(self, tail: float) -> float:
        """Half the width of that interval."""
        return t_quantile(1 - tail, self.freedom) * self.error

    def row_reach(self, tail: float) -> float:
        """What would remain of `reach` with any number of seeds."""
        return t_quantile(1 - tail, math.inf) * math.sqrt(self.row_variance)

    def detectable(self, margin: float, tail: float) -> float:
        """Smallest true value whose interval lies above `margin` with probability `POWER`."""
        return margin + self.reach(tail) + self.reach(1 - POWER)

    def with_seeds(self, seeds: int) -> "Estimate":
        """The same noise measured with another number of seeds per arm."""
        return Estimate(
            value=self.value,
            seeds=seeds,
            seed_variance=self.seed_variance * self.seeds / seeds,
            row_variance=self.row_variance,
            seed_freedom=self.seed_freedom * (seeds - 1) / (self.seeds - 1),
        )

    def chance_above(self, margin: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at most `margin`."""
        from scipy.special import ndtr, stdtr

        if not self.error:
            return float(self.value <= margin)
        z = (margin - self.value) / self.error
        return float(ndtr(z) if math.isinf(self.freedom) else stdtr(self.freedom, z))

    def seeds_needed(self, margin: float, tail: float) -> int | None:
        """Fewest seeds per arm that fail a true value of twice the margin with probability `POWER`.

        By symmetry the same number passes a true value of 0 with that probability. None where no number does: then the
        test rows are too few.
        """
        enough = (k for k in range(2, MOST_SEEDS + 1) if self.with_seeds(k).detectable(margin, tail) <= 2 * margin)
        return next(enough, None)


def mean(value_K: F64, derivative_KN: F64) -> Estimate:
    """Mean over seeds; of paired differences too, for which both arguments are differences of two arms.

    Args:
        value_K: one value per seed.
        derivative_KN: of each value by the weight of each test row (see metrics.py); [K, 0] where rows are not known.
    """
    seeds = len(value_K)
    return Estimate(
        value=float(value_K.mean()),
        seeds=seeds,
        seed_variance=float(value_K.var(ddof=1)) / seeds if seeds > 1 else 0.0,
        row_variance=max(_between(derivative_KN), 0.0),
        seed_freedom=max(seeds - 1, 1),
    )


def difference(a_K: F64, b_J: F64, derivative_a_KN: F64, derivative_b_JN: F64) -> Estimate:
    """Mean of `a` minus mean of `b` where no seed of one belongs to one of the other, on the same test rows.

    The two variances are not taken to be equal (Welch, Biometrika 34, 1947).
    """
    a, b = mean(a_K, derivative_a_KN), mean(b_J, derivative_b_JN)
    seed_variance = a.seed_variance + b.seed_variance
    parts = a.seed_variance**2 / a.seed_freedom + b.seed_variance**2 / b.seed_freedom
    shared = float(derivative_a_KN.mean(axis=0) @ derivative_b_JN.mean(axis=0))
    return Estimate(
        value=a.value - b.value,
        seeds=min(a.seeds, b.seeds),
        seed_variance=seed_variance,
        row_variance=max(_between(derivative_a_KN) + _between(derivative_b_JN) - 2 * shared, 0.0),
        seed_freedom=seed_variance**2 / parts if parts else math.inf,
    )


def _between(derivative_KN: F64) -> float:
    """Mean covariance of two different seeds' values over draws of the rows; of one seed, its variance."""
    seeds = len(derivative_KN)
    own, summed_N = float(np.einsum("kn,kn->", derivative_KN, derivative_KN)), derivative_KN.sum(axis=0)
    return own if seeds == 1 else (float(summed_N @ summed_N) - own) / (seeds * (seeds - 1))


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t; of the normal distribution where `freedom` is infinite."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(freedom) else stdtrit(freedom, probability))


def sign_test(worse: int, better: int) -> float:
    """Probability of at least so many `worse` among those that differ, where either is as likely (one-sided, exact)."""
    n = worse + better
    return float(sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that rejecting those below α errs anywhere with probability α at most (Holm 1979)."""
    order, adjusted, largest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min((len(order) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return adjusted


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share; (0, 1) without a trial (Wilson, JASA 22, 1927)."""
    if not n:
        return 0.0, 1.0
    z, p = t_quantile((1 + confidence) / 2, math.inf), successes / n
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)
    return low if successes else 0.0, high if successes < n else 1.0


def looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of seeds at which a comparison may be judged: from `first` to `last`, about doubling."""
    steps = max(round(math.log2(last / first)), 1)
    return tuple(sorted({round(first * (last / first) ** (i / steps)) for i in range(steps + 1)}))


def tail_of_look(seeds: int, plan: Sequence[int], confidence: float) -> float:
    """Error on each side that the look with so many seeds may make, so that all looks together keep `confidence`.

    Bonferroni with parts in proportion to the seeds: early looks demand more and the last one keeps most, as in the
    boundaries of O'Brien and Fleming (Biometrics 35, 1979). A number between two planned ones counts as the later.
    """
    planned = next((n for n in plan if n >= seeds), plan[-1])
    return (1 - confidence) / 2 * planned / sum(plan)
