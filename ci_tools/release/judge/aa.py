"""The live A/A judge: baseline against stable, two pools with the same model.

They differ only in what pools differ in without a reason. So they tell, while a release runs, whether an event's arm
is the coin, or the urn, that events.py takes it for. Per bin the baseline's events, given those of both pools, are
Pólya draws with mean v (the baseline's share of the two pools' traffic) and a correlation up to the tolerated one.
Against all of these together stands

    F = Σ_h π_h L_h / max_θ L_θ,     h over larger correlations, and pools that differ by a ratio

which reaches 1/ε with probability ε at most if one of the θ is true (Ville). Then the judge has *fired*, for good:
pools differ by more than the policy foresees, and the fast test may not act any more; only the robust one may, which
needs no coin. To silence a test raises no false alarm, so this spends nothing of α.

It would be tempting to go further, and to let calm pools rule out correlations that the fast test then need not allow
for. But stable is mostly larger than the baseline, and how bursts of pools of unequal size divide says too little
about two pools of equal size: in simulation the true correlation was ruled out far too often.

H = hypotheses, the tolerated ones first.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ci_tools.release.judge.events import on_canary
from ci_tools.release.judge.mixture import F64, log_total

ERROR = 0.01
"""Probability with which the fast test is silenced without reason; it costs power, not validity."""
STEPS = 6
"""Correlations that stand for all the tolerated ones, besides 0."""
LARGER = 0.6
"""A correlation beyond all that are tolerated."""
RATIOS = (0.5, 0.8, 1.25, 2.0)
"""Pools that differ."""


def tolerated(largest: float) -> list[float]:
    """Correlations from 0 to the largest."""
    return [largest * i / STEPS for i in range(STEPS + 1)] if largest else [0.0]


def hypotheses(largest: float) -> list[tuple[float, float]]:
    """Pairs (ratio, θ), the tolerated ones first."""
    alike = [(1.0, theta) for theta in tolerated(largest)]
    beyond = max(LARGER, (1 + largest) / 2)
    return [*alike, (1.0, beyond), *((ratio, theta) for ratio in RATIOS for theta in sorted({0.0, largest}))]


def log_likelihoods(baseline: ArrayLike, stable: ArrayLike, share: float, largest: float) -> F64:
    """Of one bin's events under every hypothesis, [..., H], but for the binomial coefficient that all share.

    Args:
        baseline: events in the bin.
        stable: events in the bin.
        share: of the baseline in the traffic of both, in (0, 1).
        largest: tolerated correlation.
    """
    from scipy.special import gammaln

    b, s = (np.asarray(count, dtype=np.float64) for count in (baseline, stable))
    columns = []
    for ratio, theta in hypotheses(largest):
        p = float(on_canary(ratio, share))
        if theta:
            m = 1 / theta - 1
            columns.append(
                gammaln(p * m + b) - gammaln(p * m) + gammaln((1 - p) * m + s) - gammaln((1 - p) * m)
                - gammaln(m + b + s) + gammaln(m)
            )  # fmt: skip
        else:
            columns.append(b * np.log(p) + s * np.log1p(-p))
    return np.stack(columns, axis=-1)


def fired(log_likelihood_H: F64, largest: float) -> NDArray[np.bool_]:
    """Whether the bins so far contradict every tolerated correlation.

    Args:
        log_likelihood_H: sums over bins.
        largest: tolerated correlation.
    """
    tried = len(tolerated(largest))
    against = log_total(log_likelihood_H[..., tried:]) - np.log(log_likelihood_H.shape[-1] - tried)
    contradicted: NDArray[np.bool_] = against - log_likelihood_H[..., :tried].max(axis=-1) >= -np.log(ERROR)
    return contradicted
