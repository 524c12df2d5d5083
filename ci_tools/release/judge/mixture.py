"""One e-value from many bets, which follows a change.

A bet is a factor f ≥ 0 per step with E[f | past] ≤ 1 under the null. J bets share one unit of money by prior weights;
the total is again a supermartingale, because the weights of a step are fixed before it. After each step a small part η
of the total is shared out again by the prior (fixed share: Herbster and Warmuth, Machine Learning 32, 1998). So a bet
that lost during an hour of health has not lost for good when the canary breaks in the second hour: that costs
log(1/η), where a plain mixture would first have to win back the whole hour. Without a change it costs η per step.

J = bets; arrays may have any leading axes. All in natural logarithms.
"""

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
SWITCH = 0.0003
"""Part of the money that is shared out again per step."""


def prior(bets: int, first: float | None = None) -> F64:
    """Log weights of J bets: equal, but for the first where its weight is given.

    Args:
        bets: J.
        first: weight of the first bet, which by convention bets nothing (f = 1) and keeps money safe.
    """
    if first is None:
        return np.full(bets, -math.log(bets))
    weights = np.full(bets, (1 - first) / (bets - 1))
    weights[0] = first
    log_weights: F64 = np.log(weights)
    return log_weights


def step(log_wealth_J: F64, log_factor_J: F64, log_prior_J: F64, switch: float = SWITCH) -> F64:
    """Wealth of every bet after one step; the total afterwards is the e-value.

    Law: log_total(step(W, f)) == log_total(W + f), whatever `switch` is.
    """
    won_J = log_wealth_J + log_factor_J
    if not switch:
        return won_J
    shared = log_total(won_J)[..., None] + math.log(switch) + log_prior_J
    return np.logaddexp(won_J + math.log1p(-switch), shared)


def log_total(log_wealth_J: F64) -> F64:
    """Logarithm of the sum over bets; stable for any size."""
    top = log_wealth_J.max(axis=-1)
    total: F64 = top + np.log(np.exp(log_wealth_J - top[..., None]).sum(axis=-1))
    return total
