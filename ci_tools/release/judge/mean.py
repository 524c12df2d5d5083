"""A bounded mean: evidence by betting, and an interval, at all times together.

For values x with E[x | past] ≤ μ₀ and x ≥ μ₀ − R, the capital Π (1 + λ(x − μ₀)) is a supermartingale for every λ in
[0, 1/R) that is fixed before x (Waudby-Smith and Ramdas, JRSS B 86, 2024, arXiv 2010.09686, proposition 2). Instead of
one λ estimated as data come in, a mixture over a grid of λ is used: its weights, the capital won so far, are the
prediction (the grid form of a universal portfolio: Orabona and Jun, arXiv 2110.00115). It needs no tuning, and order
and grouping of the values do not matter.

The interval is the empirical-Bernstein one: for x in [a, a + R], any prediction m_i made before x_i and λ in [0, 1),

    exp(λ Σ(x_i − μ)/R − ψ(λ) V),    ψ(λ) = −log(1 − λ) − λ,   V = Σ(x_i − m_i)²/R²

is a supermartingale (Howard et al., Annals of Statistics 49, 2021, theorem 4), for the mean of conditional means if
those change. A union over a grid of λ gives a closed form.

J = bets; values may come as a histogram (value, count).
"""

import numpy as np
from numpy.typing import ArrayLike

from ci_tools.config import Config
from ci_tools.release.judge.mixture import F64

FRACTIONS = (0.02, 0.05, 0.12, 0.3, 0.6, 0.9)
"""Bets, as parts of the largest that cannot be ruined."""
GRID = np.geomspace(0.002, 0.8, 12)
"""The λ of the interval."""


def log_factors(gain: ArrayLike, count: ArrayLike, reach: float) -> F64:
    """Log factor [J] of every bet after all values of a histogram.

    Args:
        gain: x − μ₀ for each value; for evidence that the mean is lower, μ₀ − x.
        count: how often each value came.
        reach: R, the largest loss −gain that could have come.
    """
    gains, counts = np.asarray(gain, dtype=np.float64), np.asarray(count, dtype=np.float64)
    bets_J = np.asarray(FRACTIONS) / reach
    factors: F64 = counts @ np.log1p(gains[:, None] * bets_J)
    return factors


class Sample(Config):
    """All of values that an interval of their mean needs."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sum of squared errors of prediction, by the mean before each group of values."""

    def add(self, value: ArrayLike, count: ArrayLike, first_guess: float) -> "Sample":
        """With the values of a histogram; `first_guess` predicts them where there were none before."""
        values, counts = np.asarray(value, dtype=np.float64), np.asarray(count, dtype=np.float64)
        expected = self.total / self.n if self.n else first_guess
        return Sample(
            n=self.n + round(float(counts.sum())),
            total=self.total + float(counts @ values),
            squares=self.squares + float(counts @ (values - expected) ** 2),
        )

    def interval(self, ends: tuple[float, float], error: float) -> tuple[float, float]:
        """Where the mean lies, but with probability `error` at any time; all of `ends` without data.

        Args:
            ends: smallest and largest possible value.
            error: of both sides together.
        """
        low, high = ends
        if not self.n:
            return ends
        width = high - low
        psi_J = -np.log1p(-GRID) - GRID
        bound_J = (np.log(2 * len(GRID) / error) + psi_J * self.squares / width**2) / (GRID * self.n)
        reach, mean = width * float(bound_J.min()), self.total / self.n
        return max(mean - reach, low), min(mean + reach, high)
