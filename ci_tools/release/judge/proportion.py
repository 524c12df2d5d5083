"""A share: evidence that it lies above or below a value, and where it lies, at all times together.

With p_i the conditional probability of outcome i, S successes among n and ψ_p(λ) = log(1 − p + p e^λ),

    E = Σ_j π_j exp(λ_j S − n ψ_p(λ_j))

is a supermartingale for all p_i ≤ p if all λ_j > 0, and for all p_i ≥ p if all λ_j < 0. ψ is concave in p, so
Σ ψ_{p_i} ≤ n ψ at the mean of the p_i: the interval that collects the values not rejected holds for the running mean
of shares that change (Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49, 2021, section 4: sub-Bernoulli).
The λ_j are log odds ratios, fixed in advance and not drawn from a Beta mixture around p, so that one supermartingale
serves every p of the interval.

The state is (S, n): order and grouping of outcomes do not matter. Arguments broadcast.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ci_tools.release.judge.mixture import F64, log_total

TILTS = np.geomspace(0.04, 6.0, 10)
"""Log odds ratios that are bet on."""
HALVINGS = 36
"""Of the interval in which an end is sought: far below the width of any interval."""


def log_e_above(successes: ArrayLike, n: ArrayLike, p: ArrayLike) -> F64:
    """Log evidence that the share exceeds p."""
    return _log_e(successes, n, p, TILTS)


def log_e_below(successes: ArrayLike, n: ArrayLike, p: ArrayLike) -> F64:
    """Log evidence that the share is less than p."""
    return _log_e(successes, n, p, -TILTS)


def interval(successes: ArrayLike, n: ArrayLike, error: float) -> tuple[F64, F64]:
    """Ends between which the mean share lies at all times, but with probability `error`; [0, 1] without data."""
    s, total = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    share = np.divide(s, total, out=np.full(np.broadcast(s, total).shape, 0.5), where=total > 0)
    enough = np.log(2 / error)
    upper = _bisect(share, np.ones_like(share), lambda p: log_e_below(s, total, p) < enough)
    lower = _bisect(share, np.zeros_like(share), lambda p: log_e_above(s, total, p) < enough)
    return lower, upper


def _log_e(successes: ArrayLike, n: ArrayLike, p: ArrayLike, tilts_J: F64) -> F64:
    s, total, share = (np.asarray(x, dtype=np.float64)[..., None] for x in (successes, n, p))
    return log_total(tilts_J * s - total * np.log1p(share * np.expm1(tilts_J))) - float(np.log(len(tilts_J)))


def _bisect(inside: F64, outside: F64, keeps: Callable[[F64], NDArray[np.bool_]]) -> F64:
    """The farthest value from `inside` towards `outside` that `keeps`, which is monotone between them."""
    kept, refused = inside, outside
    for _ in range(HALVINGS):
        middle = (kept + refused) / 2
        yes = keeps(middle)
        kept, refused = np.where(yes, middle, kept), np.where(yes, refused, middle)
    return refused
