"""The next weight: as much traffic as what is known of the canary allows to risk.

Over the next step the canary costs at most U·T·w bad outcomes beyond the baseline's, with U an upper bound on the
difference of the two rates, T the requests that are expected in the step, and w its weight. The next weight is the
largest w for which that many, and what chance adds to them, fit into what is left of the damage budget. Before any
request U = 1, so that the first weight would bear a canary that fails every time. The bounds hold at all times together
(confidence sequences), so a weight may be chosen from them whenever one likes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ci_tools.release.judge import proportion
from ci_tools.release.judge.policy import Ramp


class Outcomes(NamedTuple):
    """Of one kind of event so far."""

    canary: int
    canary_requests: int
    baseline: int
    baseline_requests: int


class Risk(NamedTuple):
    """What one kind of event may still cost."""

    rate: float
    """Upper bound on the canary's excess rate, in bad outcomes per request."""
    spent: float
    """Upper bound on the canary's bad outcomes so far beyond the baseline's rate."""


def risk(outcomes: Outcomes, error: float) -> Risk:
    """Bounds that fail at any time with probability `error` at most: half of it for each arm's rate."""
    requests = (outcomes.canary_requests, outcomes.baseline_requests)
    low, high = proportion.interval((outcomes.canary, outcomes.baseline), requests, error)
    highest, lowest = float(high[0]), float(low[1])
    return Risk(rate=max(highest - lowest, 0.0), spent=max(outcomes.canary - lowest * outcomes.canary_requests, 0.0))


def next_weight(current: float, requests_per_second: float, outcomes: Sequence[Outcomes], policy: Ramp) -> float:
    """Share of all traffic for the canary in the next step.

    Args:
        current: its share now; 0 before the first step.
        requests_per_second: of all arms together, as expected for the next step.
        outcomes: one entry per kind of event; the one that allows least decides.
        policy: budget, confidence and limits.
    """
    largest = min(policy.largest, current * policy.growth) if current else policy.first
    expected = requests_per_second * policy.step_seconds
    for one in outcomes:
        bound = risk(one, (1 - policy.confidence) / len(outcomes))
        if bound.rate * expected > 0:
            largest = min(largest, bearable(policy.damage - bound.spent, policy.confidence) / (bound.rate * expected))
    return max(largest, policy.smallest)


def bearable(left: float, confidence: float) -> float:
    """The expected number of events whose number is at most `left` with that confidence, if it is Poisson's.

    P(N ≤ k | mean m) is the regularised upper incomplete gamma function Q(k + 1, m); 0 where less than one is left.
    """
    from scipy.special import gammainccinv

    return float(gammainccinv(math.floor(left) + 1, confidence)) if left >= 1 else 0.0
