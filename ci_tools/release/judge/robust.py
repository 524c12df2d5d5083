"""The robust companion: what bursts, load and the hour of the day cannot fool.

Bins of a few seconds, two pools of the same size. If the canary is no worse, then exchanging the two arms within a bin
changes nothing, whatever happens inside: its events may be correlated in any way. So the difference

    d = (e_c·n_b − e_b·n_c) / n̄,      e = events, n = requests of an arm in the bin, n̄ = (n_c + n_b)/2

has a law that is symmetric around 0, given everything before the bin, or one that lies below such a law. For a bet on
the ratio r the factor

    f = 2 / (1 + r^(−d))

has f(d) + f(−d) = 2, so its expectation is 1 under symmetry, exactly; and as it rises with d, at most 1 for a canary
that is better. For Poisson events it is the likelihood ratio of r against 1, made symmetric.

This takes the place of the mixture of exp(λS − λ²V/2) over half-normal λ (de la Peña; Howard et al., arXiv 1810.08240,
lemma 3): cosh x ≤ exp(x²/2), so that 2/(1 + e^(−2x)) = e^x / cosh x ≥ exp(x − x²/2), and every bet grows at least as
fast, by up to log 2 instead of 1/2 per bin.

Only whole bins count: within one, exchangeability says nothing about what follows what. Where the arms' weights differ
in a bin, it is no evidence. A hiccup of one pool that outlasts a bin makes the next one predictable, which no such test
survives: bins should be as long as bursts (`bin_seconds`), and a pool on a bad machine is a bad canary.

For promotion the null is ρ ≥ r1 and d = (r1·e_b·n_c − e_c·n_b) / n̄. With r1 = 1 (latency, whose margin lies in the
threshold) the argument above holds word for word. With r1 > 1 the law of d under ρ = r1 has mean 0 and leans to the
right, since r1 times a count spreads more than a count of r1 times the mean; f then loses on average. The tests confirm
that for Poisson and for clustered counts.
"""

import numpy as np
from numpy.typing import ArrayLike

from ci_tools.release.judge.mixture import F64

RATIOS = (1.0, 1.1, 1.3, 1.8, 4.0, 30.0)
"""Bets; the first bets nothing."""
IDLE = 0.05
"""Prior weight of the bet on nothing."""


def difference(
    worse: ArrayLike, requests: ArrayLike, better: ArrayLike, other_requests: ArrayLike, ratio: float = 1.0
) -> F64:
    """The bin's d: `worse` minus `ratio` times `better`, at equal traffic; 0 where an arm had no requests.

    Args:
        worse: events of the arm whose excess is bet on.
        requests: of that arm.
        better: events of the other arm.
        other_requests: of the other arm.
        ratio: what the other arm's events are multiplied by.
    """
    e, n, g, m = (np.asarray(x, dtype=np.float64) for x in (worse, requests, better, other_requests))
    d: F64 = np.where((n > 0) & (m > 0), (e * m - ratio * g * n) / np.maximum((n + m) / 2, 1), 0.0)
    return d


def safe_difference(
    canary: ArrayLike, requests: ArrayLike, baseline: ArrayLike, others: ArrayLike, ratio: float
) -> F64:
    """The bin's d for promotion: `ratio` times the baseline's events minus the canary's, at equal traffic."""
    return -difference(canary, requests, baseline, others, ratio)


def log_factors(d: ArrayLike) -> F64:
    """Log factor of every bet, [..., J]."""
    steps = np.asarray(d, dtype=np.float64)[..., None] * np.log(RATIOS)
    factors: F64 = np.log(2) - np.logaddexp(0.0, -steps)
    return factors
