"""All that the judge remembers: ten to fifteen kilobytes of JSON, whatever the traffic.

Law: State.model_validate_json(state.model_dump_json()) == state, to the last bit.
"""

from pydantic import Field

from ci_tools.config import Config
from ci_tools.release.judge import compared, latency, routing
from ci_tools.release.judge.compared import Compared, Span
from ci_tools.release.judge.labels import LabelState
from ci_tools.release.judge.policy import Events, Policy
from ci_tools.release.judge.scores import FlipState, ShiftState
from ci_tools.release.judge.wealth import Terms


class State(Config):
    """Made by `begin`, replaced by `update`."""

    policy: str
    """Digest of the policy that it belongs to: budgets cannot be changed under way."""
    seconds: float = 0.0
    """End of the last observation."""
    opened: float = 0.0
    """When the open bin began."""
    span: Span = Span()
    """Requests and weights of the open bin."""
    total: Span = Span()
    """Requests of the whole release."""
    compared: dict[str, Compared]
    """Events and latency quantiles, by full name."""
    flips: FlipState = FlipState()
    shift: ShiftState = ShiftState()
    labels: LabelState = LabelState()
    reference: dict[int, int] = Field(default_factory=dict)
    """Latency histogram of baseline and stable."""
    seen: float = 0.0
    """When the canary last had a request."""
    routing: tuple[tuple[float, ...], tuple[float, ...]]
    """Log wealth of the bets that requests do not arrive as routed."""
    doubted: bool = False
    """Whether they do not."""
    weight_since: float = 0.0
    """When the present weight was set."""
    per_second: float = 0.0
    """Requests of all arms, of late."""


def begin(policy: Policy) -> State:
    """The state before the first request."""
    names = [name for name in policy.metrics if name.startswith(("events.", "latency."))]
    many, few = routing.begin()
    return State(
        policy=policy.digest,
        compared={name: compared.begin(policy.burst_correlation) for name in names},
        routing=(tuple(many.tolist()), tuple(few.tolist())),
    )


def terms(name: str, policy: Policy) -> Terms:
    """What a compared metric is held to. Slow requests have their margins in the threshold: their null ratio is 1."""
    metric = policy.metrics[name]
    event = metric if isinstance(metric, Events) else None
    return Terms(
        tolerated_ratio=event.tolerated_ratio if event else 1.0,
        margin_ratio=event.margin_ratio if event else 1.0,
        margin_rate=event.margin_rate if event else None,
        outage_rate=policy.outage_rate if event else None,
        burst_correlation=policy.burst_correlation,
    )


def thresholds(state: State, policy: Policy) -> dict[str, Compared]:
    """The compared metrics with the next bin's latency thresholds, from what was seen before it."""
    found = dict(state.compared)
    for name, quantile in policy.latency.items():
        index = latency.threshold(state.reference, quantile.quantile)
        found[f"latency.{name}"] = found[f"latency.{name}"].model_copy(update={"threshold": index})
    return found
