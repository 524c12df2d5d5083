"""How the two probabilities of error are shared, so that the whole release keeps them.

**False rollback.** A release is rolled back when any blocking metric's evidence reaches 1/α_k. By Ville's inequality an
e-process ever does so with probability α_k at most, and Σ α_k = α: the union bound, whatever ties metrics together and
however often anyone looks. Within a metric α_k is shared once more, by weighting the e-values of several tests: a
weighted sum of e-values with weights that sum to 1 is an e-value.

**Wrong promotion.** A release is promoted only when every needed metric's reversed test reaches 1/β at the same time.
If one metric is as bad as its margin, its own test must err for that: β needs no splitting (intersection-union test:
Berger, Technometrics 24, 1982).
"""

import math

from ci_tools.release.judge.policy import Policy

FAST, ROBUST, OUTAGE = 0.5, 0.4, 0.1
"""Parts of what a compared metric may spend on harm: the coin, the robust companion, the outage test."""
SAFE_FAST, SAFE_ROBUST, SAFE_RATE = 0.5, 0.25, 0.25
"""Parts of what it may spend on safety: the coin, the robust companion, and the rate in itself."""


def alphas(policy: Policy) -> dict[str, float]:
    """α_k of every metric. One that does not block cannot roll anything back, so it is told at α itself."""
    shares = {name: metric.alpha_share for name, metric in policy.metrics.items() if metric.blocks}
    whole = sum(shares.values())
    return {name: policy.false_rollback * (shares[name] / whole if name in shares else 1.0) for name in policy.metrics}


def needed_evidence(probability: float) -> float:
    """Log e-value at which a test with this budget rejects."""
    return -math.log(probability)
