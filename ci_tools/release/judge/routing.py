"""Do requests arrive as they were routed?

The coin of events.py takes the canary's share from the declared weights, which makes it exact; so it believes what it
is told. If an arm's counts are lost, or weights are not what was said, few events on the canary would look like a good
canary, and few on the baseline like a bad one. The requests themselves tell: routed at random, each falls on the canary
with probability w, and the coin's own bets apply to them (a sequential test for sample ratio mismatch: Lindon and
Malek, arXiv 2011.03567, section 2). Shares within `SLACK` of the declared ratio are taken for rounding.

Where they contradict the weights, the coin is silenced for the rest of the release and nothing is promoted; the robust
companion, which counts requests instead of believing weights, may still roll back. As there are far more requests than
events, that is noticed before evidence of either kind is complete.
"""

import numpy as np
from numpy.typing import NDArray

from ci_tools.release.judge import events, mixture
from ci_tools.release.judge.mixture import F64, log_total
from ci_tools.release.judge.wealth import BETTER_PRIOR, WORSE_PRIOR, Requests

SLACK = 1.02
"""Factor by which the ratio of the arms' requests may differ from that of their weights."""
ERROR = 1e-3
"""Probability with which requests that arrive as routed are ever doubted."""


def begin(*axes: int) -> tuple[F64, F64]:
    """Log wealth of the bets that the canary gets too many requests, and too few."""
    many, few = (np.broadcast_to(prior, (*axes, len(prior))) for prior in (WORSE_PRIOR, BETTER_PRIOR))
    return many, few


def step(log_wealth: tuple[F64, F64], requests: Requests) -> tuple[F64, F64]:
    """After the requests of one bin."""
    if not requests.share:
        return log_wealth
    many, few = (
        events.log_factors(requests.canary, requests.baseline, requests.share, ratio, bets, (0.0,))[..., 0, :]
        for ratio, bets in ((SLACK, events.WORSE), (1 / SLACK, events.BETTER))
    )
    return mixture.step(log_wealth[0], many, WORSE_PRIOR), mixture.step(log_wealth[1], few, BETTER_PRIOR)


def doubted(log_wealth: tuple[F64, F64]) -> NDArray[np.bool_]:
    """Whether requests contradict the weights."""
    both = np.logaddexp(log_total(log_wealth[0]), log_total(log_wealth[1])) - np.log(2)
    contradicted: NDArray[np.bool_] = both >= -np.log(ERROR)
    return contradicted
