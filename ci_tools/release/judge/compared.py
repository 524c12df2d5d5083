"""What is remembered of one compared metric, an event or a quantile's slow requests, between observations.

The tests themselves are in wealth.py; here are their plain values, and the counts of the open bin.
"""

from typing import Any

import numpy as np

from ci_tools.config import Config
from ci_tools.release.judge import wealth
from ci_tools.release.judge.followed import Followed
from ci_tools.release.judge.wealth import Evidence, Outcomes, Requests, Terms, Wealth

Row = tuple[float, ...]


class Tally(Config):
    """Bad outcomes, or slow requests."""

    canary: int = 0
    """Against what is tolerated."""
    canary_margin: int = 0
    """Against the margin; for events the same as `canary`."""
    baseline: int = 0
    stable: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    @property
    def outcomes(self) -> Outcomes:
        """As the tests take them."""
        return Outcomes(self.canary, self.canary_margin, self.baseline, self.stable)


class Span(Config):
    """Requests per arm, under one pair of weights."""

    canary: int = 0
    baseline: int = 0
    stable: int = 0
    canary_weight: float = 0.0
    baseline_weight: float = 0.0

    @property
    def requests(self) -> Requests:
        """As the tests take them."""
        return Requests(self.canary, self.baseline, self.stable, self.canary_weight, self.baseline_weight)

    @property
    def weights(self) -> tuple[float, float]:
        """Of canary and baseline."""
        return self.canary_weight, self.baseline_weight


class Compared(Followed):
    """Evidence of all closed bins, counts of the open one. Natural logarithms; shapes as in wealth.py."""

    harm: tuple[Row, ...]
    safe: tuple[Row, ...]
    outage: Row
    robust_harm: Row
    robust_safe: Row
    pools: Row
    fired: bool
    """Whether the A/A judge found pools that differ by more than the policy foresees."""
    total: Tally = Tally()
    """Of all bins, the open one included."""
    bin: Tally = Tally()
    """Of the open bin."""
    threshold: int | None = None
    """Latency bin beyond which a request of the open bin is slow; None for events, and where it is not known yet."""


def begin(burst_correlation: float) -> Compared:
    """Before any data."""
    return Compared(**_plain(wealth.begin(burst_correlation)))


def add(state: Compared, tally: Tally) -> Compared:
    """Count into the open bin."""
    return state.model_copy(update={"total": state.total + tally, "bin": state.bin + tally})


def close(state: Compared, span: Span, terms: Terms) -> Compared:
    """Turn the open bin's counts into evidence; `span` holds the bin's requests and weights."""
    after = wealth.step(_arrays(state), state.bin.outcomes, span.requests, terms)
    return state.model_copy(update={"bin": Tally(), **_plain(after)})


def evidence(state: Compared, span: Span, total: Span, terms: Terms, doubted: bool) -> Evidence:
    """Of all that was counted.

    Args:
        state: of the metric.
        span: requests and weights of the open bin.
        total: requests of all bins, the open one included.
        terms: what the metric is held to.
        doubted: whether requests contradict the weights.
    """
    return wealth.weigh(
        _arrays(state),
        state.bin.outcomes,
        span.requests,
        state.total.outcomes,
        total.requests,
        terms,
        np.array(doubted),
    )


def _arrays(state: Compared) -> Wealth:
    return Wealth(
        harm_KJ=np.array(state.harm),
        safe_KJ=np.array(state.safe),
        outage_J=np.array(state.outage),
        robust_harm_J=np.array(state.robust_harm),
        robust_safe_J=np.array(state.robust_safe),
        pools_H=np.array(state.pools),
        fired=np.array(state.fired),
    )


def _plain(values: Wealth) -> dict[str, Any]:
    """Law: _arrays of a state with these values gives them back, bit by bit."""
    return {
        "harm": tuple(map(tuple, values.harm_KJ.tolist())),
        "safe": tuple(map(tuple, values.safe_KJ.tolist())),
        "outage": tuple(values.outage_J.tolist()),
        "robust_harm": tuple(values.robust_harm_J.tolist()),
        "robust_safe": tuple(values.robust_safe_J.tolist()),
        "pools": tuple(values.pools_H.tolist()),
        "fired": bool(values.fired),
    }
