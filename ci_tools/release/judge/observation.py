"""What the judge is told: counts and histograms of what happened since it was last told.

Everything belongs to the weights under which it was *routed*: a timeout that surfaces after a change of weight is
reported with the weight of its request. Arms are those of the first attempt. The weights were decided before the
traffic that they routed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ci_tools.config import Config, validate
from ci_tools.errors import ConfigError, DataError
from ci_tools.release.judge.policy import Policy

Count = Annotated[int, Field(ge=0)]
SCORE_BINS = 32
"""Of [0, 1], equally wide; scores count at the middle of their bin."""


class Arm(Config):
    """One pool's share of an observation."""

    requests: Count = 0
    """Answered, failed or timed out."""
    events: dict[str, Count] = Field(default_factory=dict)
    """Requests with each bad outcome, by the names of the policy; every name must be there if there were requests."""
    latency: dict[int, Count] = Field(default_factory=dict)
    """Requests per latency bin (latency.py); empty where latency is not measured."""
    scores: dict[Annotated[int, Field(ge=0, lt=SCORE_BINS)], Count] = Field(default_factory=dict)
    """Answers per score bin; empty where scores are not measured."""

    @model_validator(mode="after")
    def _no_more_than_requests(self) -> Self:
        parts = {f"events.{name}": count for name, count in self.events.items()}
        parts |= {"latency": sum(self.latency.values()), "scores": sum(self.scores.values())}
        for name, count in parts.items():
            if count > self.requests:
                raise ValueError(f"{name} counts {count} of {self.requests} requests")
        return self


class Observation(Config):
    """A span of time in which the weights did not change."""

    seconds: Annotated[float, Field(ge=0)]
    """Since the release began, at the end of the span."""
    canary_weight: Annotated[float, Field(ge=0, le=1)]
    """Share of all traffic that was routed to the canary."""
    baseline_weight: Annotated[float, Field(ge=0, le=1)]
    """Share of all traffic that was routed to the baseline; the rest went to stable."""
    canary: Arm = Arm()
    baseline: Arm = Arm()
    stable: Arm = Arm()
    pairs: Count = 0
    """Requests that both models decided, by mirroring."""
    flips: Count = 0
    """Of these, decided differently."""
    losses: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = ()
    """Canary's loss minus the baseline's for each mirrored request whose label arrived; losses lie in [0, 1]."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.canary_weight + self.baseline_weight > 1 + 1e-9:
            raise ValueError("canary_weight and baseline_weight exceed 1 together")
        if self.flips > self.pairs:
            raise ValueError(f"flips counts {self.flips} of {self.pairs} pairs")
        return self

    @property
    def arms(self) -> dict[str, Arm]:
        """By name."""
        return {"canary": self.canary, "baseline": self.baseline, "stable": self.stable}


def read(raw: Mapping[str, Any], policy: Policy) -> Observation:
    """Plain values, as JSON holds them, to an observation.

    Raises:
        DataError: names the first key that breaks a rule, the rule and the value.
    """
    try:
        observation = validate(raw, Observation, where="observation")
    except ConfigError as error:
        raise DataError(error.what, where=error.where, fix=error.fix) from None
    check(observation, policy)
    return observation


def check(observation: Observation, policy: Policy) -> None:
    """Refuse events that the policy does not know, and arms that leave one out: silence is no zero.

    Raises:
        DataError: names the arm and the event.
    """
    fix = f"use one of {', '.join(policy.events)}"
    for name, arm in observation.arms.items():
        for event in sorted(arm.events.keys() - policy.events.keys()):
            raise DataError(f"{name}.events.{event}: unknown event", where="observation", fix=fix)
        for event in sorted(policy.events.keys() - arm.events.keys()) if arm.requests else ():
            rule = "an arm with requests reports every event"
            raise DataError(f"{name}.events.{event}: missing", where="observation", rule=rule, fix="report 0 for none")
