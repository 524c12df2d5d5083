"""The tests of one compared metric side by side: what every bin does to them, and what they say together.

Three tests share a metric's budget (budget.py): the coin under bursts and the outage test (events.py), and the robust
companion (robust.py). The A/A judge (aa.py) may silence the first.

K = correlations, J = bets, H = hypotheses. All arrays may have the same leading axes: many releases at once.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ci_tools.release.judge import aa, events, mixture, proportion, robust
from ci_tools.release.judge.budget import FAST, OUTAGE, ROBUST, SAFE_FAST, SAFE_RATE, SAFE_ROBUST
from ci_tools.release.judge.mixture import F64, log_total

WORSE_PRIOR = mixture.prior(len(events.WORSE), events.IDLE)
BETTER_PRIOR = mixture.prior(len(events.BETTER), events.IDLE)
OUTAGE_PRIOR = mixture.prior(1 + len(events.OUTAGE), events.IDLE)
ROBUST_PRIOR = mixture.prior(len(robust.RATIOS), robust.IDLE)


class Outcomes(NamedTuple):
    """Events, or slow requests, of one bin or of all."""

    canary: ArrayLike
    """Against what is tolerated."""
    canary_margin: ArrayLike
    """Against the margin; for events the same as `canary`."""
    baseline: ArrayLike
    stable: ArrayLike


class Requests(NamedTuple):
    """Requests of one bin or of all, and the weights that routed them."""

    canary: ArrayLike
    baseline: ArrayLike
    stable: ArrayLike
    canary_weight: float
    baseline_weight: float

    @property
    def share(self) -> float:
        """Of the canary among the compared arms; 0 where one of them gets no traffic, so that nothing is compared."""
        both = self.canary_weight + self.baseline_weight
        return self.canary_weight / both if self.canary_weight and self.baseline_weight else 0.0

    @property
    def pool_share(self) -> float:
        """Of the baseline in its traffic and stable's; 0 where one of them gets none."""
        rest = 1 - self.canary_weight
        return self.baseline_weight / rest if 0 < self.baseline_weight < rest - 1e-9 else 0.0


class Terms(NamedTuple):
    """What a metric is held to."""

    tolerated_ratio: float
    margin_ratio: float
    margin_rate: float | None
    """Share of requests below which the ratio does not matter; None where there is no such share."""
    outage_rate: float | None
    """None where an outage is not defined."""
    burst_correlation: float
    """Largest that is tolerated."""

    @property
    def thetas(self) -> tuple[float, ...]:
        """Correlations that stand for all the tolerated ones."""
        return events.correlations(self.burst_correlation)


class Evidence(NamedTuple):
    """Natural logarithms of e-values, floats or arrays."""

    harm: F64
    """Against "no worse than tolerated"; to be held against the log of one over the metric's budget."""
    safe: F64
    """Against "as bad as the margin"; to be held against the log of one over `wrong_promotion`."""


class Wealth(NamedTuple):
    """Log wealth of all bets, log likelihoods of the A/A judge, and whether it has fired."""

    harm_KJ: F64
    safe_KJ: F64
    outage_J: F64
    robust_harm_J: F64
    robust_safe_J: F64
    pools_H: F64
    fired: NDArray[np.bool_]


def begin(burst_correlation: float, *axes: int) -> Wealth:
    """Before any bin, with leading `axes`."""
    rows = len(events.correlations(burst_correlation))

    def spread(values: F64) -> F64:
        return np.broadcast_to(values, (*axes, *values.shape))

    return Wealth(
        harm_KJ=spread(np.tile(WORSE_PRIOR, (rows, 1))),
        safe_KJ=spread(np.tile(BETTER_PRIOR, (rows, 1))),
        outage_J=spread(OUTAGE_PRIOR),
        robust_harm_J=spread(ROBUST_PRIOR),
        robust_safe_J=spread(ROBUST_PRIOR),
        pools_H=spread(np.zeros(len(aa.hypotheses(burst_correlation)))),
        fired=np.zeros(axes, dtype=bool),
    )


def step(wealth: Wealth, bad: Outcomes, requests: Requests, terms: Terms) -> Wealth:
    """After one more bin."""
    compared = np.asarray(bad.canary) + np.asarray(bad.canary_margin) + np.asarray(bad.baseline) > 0
    if requests.share:
        harm_KJ, safe_KJ = _coin_factors(bad, requests, terms)
        wealth = wealth._replace(
            harm_KJ=_moved(wealth.harm_KJ, harm_KJ, WORSE_PRIOR, compared),
            safe_KJ=_moved(wealth.safe_KJ, safe_KJ, BETTER_PRIOR, compared),
        )
    if requests.share and requests.canary_weight == requests.baseline_weight:
        arms = bad.canary, requests.canary, bad.baseline, requests.baseline
        worse = robust.log_factors(robust.difference(*arms))
        arms = bad.canary_margin, *arms[1:]
        better = robust.log_factors(robust.safe_difference(*arms, terms.margin_ratio))
        wealth = wealth._replace(
            robust_harm_J=_moved(wealth.robust_harm_J, worse, ROBUST_PRIOR, compared),
            robust_safe_J=_moved(wealth.robust_safe_J, better, ROBUST_PRIOR, compared),
        )
    if terms.outage_rate:
        factors = events.outage_factors(bad.canary, requests.canary, terms.outage_rate)
        seen = np.asarray(requests.canary) > 0
        wealth = wealth._replace(outage_J=_moved(wealth.outage_J, factors, OUTAGE_PRIOR, seen))
    if requests.pool_share:
        likelihoods = aa.log_likelihoods(bad.baseline, bad.stable, requests.pool_share, terms.burst_correlation)
        pools_H = wealth.pools_H + np.where((np.asarray(requests.stable) > 0)[..., None], likelihoods, 0.0)
        wealth = wealth._replace(pools_H=pools_H, fired=wealth.fired | aa.fired(pools_H, terms.burst_correlation))
    return wealth


def weigh(
    wealth: Wealth,
    bad: Outcomes,
    requests: Requests,
    all_bad: Outcomes,
    every: Requests,
    terms: Terms,
    doubted: NDArray[np.bool_],
) -> Evidence:
    """The metric's evidence now.

    Args:
        wealth: after all closed bins.
        bad: of the open bin, which counts at once but for the robust companion.
        requests: of the open bin.
        all_bad: of all bins, the open one included.
        every: requests of all bins, the open one included.
        terms: what the metric is held to.
        doubted: whether requests contradict the weights (routing.py).
    """
    harm_KJ, safe_KJ = wealth.harm_KJ, wealth.safe_KJ
    if requests.share:
        more = _coin_factors(bad, requests, terms)
        harm_KJ, safe_KJ = harm_KJ + more[0], safe_KJ + more[1]
    harm_K, safe_K, silent = log_total(harm_KJ), log_total(safe_KJ), wealth.fired | doubted
    robust_harm = log_total(wealth.robust_harm_J)
    if terms.tolerated_ratio > 1:
        # The companion's null is equality; where more is tolerated, the measured ratio must also exceed that.
        c = np.asarray(all_bad.canary) * np.asarray(every.baseline)
        b = np.asarray(all_bad.baseline) * np.asarray(every.canary)
        robust_harm = np.where(c > terms.tolerated_ratio * b, robust_harm, -np.inf)
    harm = [(FAST, np.where(silent, -np.inf, harm_K.min(axis=-1))), (ROBUST, robust_harm)]
    safe_fast = np.where(silent, -np.inf, safe_K.min(axis=-1))
    safe = [(SAFE_FAST, safe_fast), (SAFE_ROBUST, log_total(wealth.robust_safe_J))]
    if terms.outage_rate:
        outage_J = wealth.outage_J + events.outage_factors(bad.canary, requests.canary, terms.outage_rate)
        outage = np.where(doubted, -np.inf, np.minimum(harm_K[..., 0], log_total(outage_J)))
        harm.append((OUTAGE, outage))
    if terms.margin_rate is not None:
        rate = proportion.log_e_below(all_bad.canary_margin, every.canary, terms.margin_rate)
        safe.append((SAFE_RATE, np.where(silent, -np.inf, rate)))
    return Evidence(harm=combine(*harm), safe=combine(*safe))


def combine(*parts: tuple[float, F64]) -> F64:
    """Log of the weighted sum of e-values; parts are (weight, log e-value)."""
    total: F64 = np.logaddexp.reduce([np.log(weight) + value for weight, value in parts])
    return total


def _coin_factors(bad: Outcomes, requests: Requests, terms: Terms) -> tuple[F64, F64]:
    """Log factors [..., K, J] of a bin for harm and for safety."""
    harm_KJ = events.log_factors(
        bad.canary, bad.baseline, requests.share, terms.tolerated_ratio, events.WORSE, terms.thetas
    )
    safe_KJ = events.log_factors(
        bad.canary_margin, bad.baseline, requests.share, terms.margin_ratio, events.BETTER, terms.thetas
    )
    return harm_KJ, safe_KJ


def _moved(log_wealth: F64, log_factor: F64, log_prior_J: F64, where: NDArray[np.bool_]) -> F64:
    """One step of the mixture where there was something to bet on."""
    active = where.reshape(*where.shape, *[1] * (log_wealth.ndim - where.ndim))
    return np.where(active, mixture.step(log_wealth, log_factor, log_prior_J), log_wealth)
