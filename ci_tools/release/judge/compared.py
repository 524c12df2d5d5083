"""One compared metric, an event or a quantile's slow requests: its state, and its evidence both ways.

Four tests share its budget (budget.py): the coin under bursts (events.py), the outage test, the robust companion
(robust.py), and the A/A judge's exclusion of correlations (aa.py), which weakens or silences the first.
"""

from typing import Any, NamedTuple

import numpy as np

from ci_tools.config import Config
from ci_tools.release.judge import aa, events, mixture, proportion, robust
from ci_tools.release.judge.budget import FAST, OUTAGE, ROBUST, SAFE_FAST, SAFE_RATE, SAFE_ROBUST
from ci_tools.release.judge.mixture import F64, log_total

POINTS = 24
"""Of the trace; where there are more, every other one goes."""
NOTHING = -np.inf
"""Log evidence of a test that may not act."""


class Tally(Config):
    """Bad outcomes, or slow requests."""

    canary: int = 0
    """Against what is tolerated."""
    canary_margin: int = 0
    """Against the margin; for events the same as `canary`."""
    baseline: int = 0
    stable: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            canary=self.canary + other.canary,
            canary_margin=self.canary_margin + other.canary_margin,
            baseline=self.baseline + other.baseline,
            stable=self.stable + other.stable,
        )


class Span(Config):
    """Requests per arm, under one pair of weights."""

    canary: int = 0
    baseline: int = 0
    stable: int = 0
    canary_weight: float = 0.0
    baseline_weight: float = 0.0

    @property
    def weights(self) -> tuple[float, float]:
        """Of canary and baseline."""
        return self.canary_weight, self.baseline_weight

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
    """What the metric is held to."""

    tolerated_ratio: float
    margin_ratio: float
    margin_rate: float | None
    """None where a small rate excuses nothing."""
    outage_rate: float | None
    """None where an outage is not defined."""
    thetas: tuple[float, ...]
    pool_error: float


class Evidence(NamedTuple):
    """Natural logarithms of e-values."""

    harm: float
    """Against "no worse than tolerated"; to be held against the log of one over the metric's budget."""
    safe: float
    """Against "as bad as the margin"; to be held against the log of one over `wrong_promotion`."""


class Compared(Config):
    """Evidence of all closed bins, counts of the open one. Natural logarithms; shapes as in the tests' modules."""

    harm: tuple[tuple[float, ...], ...]
    safe: tuple[tuple[float, ...], ...]
    outage: tuple[float, ...]
    robust_harm: tuple[float, ...]
    robust_safe: tuple[float, ...]
    pools: tuple[float, ...]
    excluded: tuple[bool, ...]
    """Correlations that the A/A judge has ruled out; all: it has fired."""
    total: Tally = Tally()
    """Of all bins, the open one included."""
    bin: Tally = Tally()
    """Of the open bin."""
    threshold: int | None = None
    """Latency bin beyond which a request of the open bin is slow; None for events, and where it is not known yet."""
    peak: float = 0.0
    """Largest evidence of harm so far: what once sufficed suffices (Ville)."""
    trace: tuple[tuple[float, float, float], ...] = ()
    """Points (seconds, log10 e-value for harm, for safety), evenly spaced."""

    @property
    def fired(self) -> bool:
        """Whether the A/A judge found pools that differ by more than the policy foresees."""
        return all(self.excluded)


def begin(thetas: tuple[float, ...]) -> Compared:
    """Before any data."""
    return Compared(
        harm=_rows(events.start(thetas, events.WORSE)),
        safe=_rows(events.start(thetas, events.BETTER)),
        outage=_row(mixture.prior(1 + len(events.OUTAGE), events.IDLE)),
        robust_harm=_row(mixture.prior(len(robust.RATIOS), robust.IDLE)),
        robust_safe=_row(mixture.prior(len(robust.RATIOS), robust.IDLE)),
        pools=(0.0,) * len(aa.hypotheses(thetas)),
        excluded=(False,) * len(thetas),
    )


def add(state: Compared, tally: Tally) -> Compared:
    """Count into the open bin."""
    return state.model_copy(update={"total": state.total + tally, "bin": state.bin + tally})


def close(state: Compared, span: Span, terms: Terms) -> Compared:
    """Turn the open bin's counts into evidence; `span` holds the bin's requests and weights."""
    tally, found = state.bin, dict[str, Any](bin=Tally())
    if span.share and tally.canary + tally.canary_margin + tally.baseline:
        harm, safe = _coin_factors(tally, span, terms)
        found["harm"] = _rows(mixture.step(np.array(state.harm), harm, mixture.prior(len(events.WORSE), events.IDLE)))
        found["safe"] = _rows(mixture.step(np.array(state.safe), safe, mixture.prior(len(events.BETTER), events.IDLE)))
        if span.canary_weight == span.baseline_weight:
            found |= _robust_steps(state, tally, span, terms)
    if span.canary and terms.outage_rate:
        factors = events.outage_factors(tally.canary, span.canary, terms.outage_rate)
        log_prior = mixture.prior(len(factors), events.IDLE)
        found["outage"] = _row(mixture.step(np.array(state.outage), factors, log_prior))
    if span.pool_share and span.stable and tally.baseline + tally.stable:
        likelihoods = aa.log_likelihoods(tally.baseline, tally.stable, span.pool_share, terms.thetas)
        pools = np.array(state.pools) + likelihoods
        ruled_out = aa.exclude(pools, terms.thetas, terms.pool_error)
        found["pools"], found["excluded"] = _row(pools), tuple(map(bool, ruled_out | np.array(state.excluded)))
    return state.model_copy(update=found)


def evidence(state: Compared, span: Span, total: Span, terms: Terms) -> Evidence:
    """Of all that was counted, the open bin included where that is valid (not for the robust companion).

    Args:
        state: of the metric.
        span: requests and weights of the open bin.
        total: requests of all bins, the open one included.
        terms: what the metric is held to.
    """
    harm, safe, outage = np.array(state.harm), np.array(state.safe), np.array(state.outage)
    if span.share:
        more = _coin_factors(state.bin, span, terms)
        harm, safe = harm + more[0], safe + more[1]
    if terms.outage_rate:
        outage = outage + events.outage_factors(state.bin.canary, span.canary, terms.outage_rate)
    known = np.array(state.excluded)
    coin = float(log_total(harm)[0])
    robust_harm = float(log_total(np.array(state.robust_harm)))
    # The companion's null is equality; where more is tolerated, the measured ratio must also exceed that.
    worse = state.total.canary * total.baseline > terms.tolerated_ratio * state.total.baseline * total.canary
    rate = NOTHING
    if terms.margin_rate is not None and not state.fired:
        rate = float(proportion.log_e_below(state.total.canary_margin, total.canary, terms.margin_rate))
    return Evidence(
        harm=combine(
            (FAST, smallest(log_total(harm), known)),
            (OUTAGE, min(coin, float(log_total(outage))) if terms.outage_rate else NOTHING),
            (ROBUST, robust_harm if worse or terms.tolerated_ratio == 1 else NOTHING),
        ),
        safe=combine(
            (SAFE_FAST, smallest(log_total(safe), known)),
            (SAFE_RATE, rate),
            (SAFE_ROBUST, float(log_total(np.array(state.robust_safe)))),
        ),
    )


def combine(*parts: tuple[float, float]) -> float:
    """Log of the weighted sum of e-values; parts are (weight, log e-value)."""
    return float(np.logaddexp.reduce([np.log(weight) + value for weight, value in parts]))


def smallest(log_e_K: F64, excluded_K: np.ndarray) -> float:
    """Smallest evidence over the correlations that are not ruled out; none where all are."""
    return NOTHING if excluded_K.all() else float(log_e_K[~excluded_K].min())


def traced(state: Compared, seconds: float, found: Evidence) -> Compared:
    """With a point more on the trace, where the last is far enough, and the peak."""
    trace = state.trace
    if len(trace) < 2 or seconds - trace[-1][0] >= trace[1][0] - trace[0][0] - 1e-9:
        trace = (*trace, (round(seconds, 3), *(round(value / np.log(10), 2) for value in found)))
    if len(trace) > POINTS:
        trace = trace[::2]
    return state.model_copy(update={"trace": trace})


def _coin_factors(tally: Tally, span: Span, terms: Terms) -> tuple[F64, F64]:
    """Log factors [K, J] of the bin for harm and for safety."""
    harm = events.log_factors(
        tally.canary, tally.baseline, span.share, terms.tolerated_ratio, events.WORSE, terms.thetas
    )
    safe = events.log_factors(
        tally.canary_margin, tally.baseline, span.share, terms.margin_ratio, events.BETTER, terms.thetas
    )
    return harm, safe


def _robust_steps(state: Compared, tally: Tally, span: Span, terms: Terms) -> dict[str, tuple[float, ...]]:
    worse = robust.difference(tally.canary, span.canary, tally.baseline, span.baseline)
    better = robust.safe_difference(tally.canary_margin, span.canary, tally.baseline, span.baseline, terms.margin_ratio)
    log_prior = mixture.prior(len(robust.RATIOS), robust.IDLE)
    return {
        "robust_harm": _row(mixture.step(np.array(state.robust_harm), robust.log_factors(worse), log_prior)),
        "robust_safe": _row(mixture.step(np.array(state.robust_safe), robust.log_factors(better), log_prior)),
    }


def _row(values: F64) -> tuple[float, ...]:
    return tuple(values.tolist())


def _rows(values: F64) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))
