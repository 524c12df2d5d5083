"""Bad events: is the canary's rate a larger multiple of the baseline's than is tolerated?

Requests are routed at random, the canary's share among the two compared arms being w. Given that an event happened, its
arm is then a coin: with rate ratio ρ it falls on the canary with probability p(ρ) = ρw / (ρw + 1 − w). Traffic that
grows or fails for both arms alike does not enter, nor do changes of w that were decided from earlier data. For the null
ρ ≤ r0 a bet on r > r0 multiplies its money per step by

    f = [p(r)/p(r0)]^c · [(1 − p(r))/(1 − p(r0))]^b,      c, b = events of canary and baseline in the step

which rises with c; by monotone likelihood ratio E[f] ≤ 1 for every ρ ≤ r0, constant or not. For promotion the null is
ρ ≥ r1, the bets are on r < r1 and everything is mirrored.

**Bursts.** Pools have hiccups: a garbage collection, a noisy neighbour. Then events of one bin tend to fall on the same
arm, the coin is no coin, and the test above alarms falsely in a large share of healthy releases. So the null is a
family: within a bin, events follow Pólya's urn with mean p and correlation θ of two events' arms (beta-binomial), for
θ up to what the policy tolerates; θ = 0 is the coin. The bet against each θ is

    f = B(p s + c, q s + b) / B(p₀ s + c, q₀ s + b) · B(p₀ s, q₀ s) / B(p s, q s),    s = 1/θ − 1,  q = 1 − p

and the e-value is the smallest over θ. With at most one event in a bin all θ agree, so rare events pay nothing for it;
bursts beyond the largest θ are the A/A judge's to find (aa.py). The urn is sequential: looking in the middle of a bin
is valid. For pools of equal size the test against θ also holds for every smaller correlation (f is convex in c); for
unequal weights that is approximate.

References: Lindon and Malek, arXiv 2011.03567 (the coin); Ramdas et al., arXiv 2210.01948, section 3 (an e-value for
a composite null as the smallest over its members).

K = correlations θ, J = bets; counts may be arrays with leading axes.
"""

import numpy as np
from numpy.typing import ArrayLike

from ci_tools.release.judge.mixture import F64

WORSE = (1.0, 1.3, 1.7, 2.5, 5.0, 15.0, 300.0)
"""Ratios that are bet on for harm, as multiples of the tolerated one; the first bets nothing."""
BETTER = (1.0, 0.8, 0.65, 0.5, 0.25, 0.03)
"""Ratios that are bet on for safety, as multiples of the margin."""
IDLE = 0.05
"""Prior weight of the bet on nothing."""
OUTAGE = (0.4, 0.7, 0.97)
"""Bets on the canary's failure rate against the rate that a burst may have, as the way from that rate to 1."""


def correlations(largest: float) -> tuple[float, ...]:
    """The θ that stand for all up to the largest; just 0 where no bursts are foreseen."""
    return (0.0, largest / 5, largest) if largest else (0.0,)


def on_canary(ratio: ArrayLike, share: float) -> F64:
    """Probability that an event falls on the canary, where the rate ratio is `ratio`."""
    weighted = np.asarray(ratio, dtype=np.float64) * share
    return weighted / (weighted + 1 - share)


def log_factors(
    canary: ArrayLike,
    baseline: ArrayLike,
    share: float,
    null_ratio: float,
    multiples: tuple[float, ...],
    thetas: tuple[float, ...],
) -> F64:
    """Log factor of every bet for the events of one bin, [..., K, J].

    Args:
        canary: events c in the bin.
        baseline: events b in the bin.
        share: w, in (0, 1), the same for the whole bin and decided before it.
        null_ratio: r0 or r1.
        multiples: of the null ratio that are bet on.
        thetas: correlations within a bin that the null allows.
    """
    null = on_canary(null_ratio, share)
    bet_J = on_canary(null_ratio * np.asarray(multiples), share)
    return polya_ratio(canary, bet_J, null, thetas) + polya_ratio(baseline, 1 - bet_J, 1 - null, thetas)


def polya_ratio(count: ArrayLike, bet_J: F64, null: F64, thetas: tuple[float, ...]) -> F64:
    """Log of Π_{i<count} (bet·s + i) / (null·s + i) with s = 1/θ − 1, [..., K, J]; θ = 0 gives (bet/null)^count."""
    from scipy.special import gammaln

    n = np.asarray(count, dtype=np.float64)[..., None]
    rows = []
    for theta in thetas:
        if theta:
            s = 1 / theta - 1
            rows.append((gammaln(bet_J * s + n) - gammaln(bet_J * s)) - (gammaln(null * s + n) - gammaln(null * s)))
        else:
            rows.append(n * np.log(bet_J / null))
    return np.stack(rows, axis=-2)


def outage_factors(failed: ArrayLike, requests: ArrayLike, worst_rate: float) -> F64:
    """Log factors [..., 1 + len(OUTAGE)] of bets that the canary fails more often than any burst would make it.

    The null is that each of its requests fails with probability `worst_rate` at most, given all before it. Together
    with the coin at θ = 0, by the smaller of the two e-values, this rejects only what neither a burst of a healthy pool
    nor a failure common to both arms explains, and within a few requests.
    """
    rate_J = worst_rate + np.array([0.0, *OUTAGE]) * (1 - worst_rate)
    bad = np.asarray(failed, dtype=np.float64)[..., None]
    good = np.asarray(requests, dtype=np.float64)[..., None] - bad
    factors: F64 = bad * np.log(rate_J / worst_rate) + good * np.log((1 - rate_J) / (1 - worst_rate))
    return factors
