"""release.yaml: what a release may cost, what stops it, and what it must prove before it is promoted."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ci_tools import config
from ci_tools.config import Config
from ci_tools.release.judge.latency import bins_down, bins_up

FILE = Path("release.yaml")

Probability = Annotated[float, Field(gt=0, lt=0.5)]
Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


class Metric(Config):
    """What every metric has in common."""

    blocks: bool = True
    """Whether evidence of harm rolls the release back; otherwise it is only told."""
    needed: bool = True
    """Whether promotion waits for evidence that the metric is no worse than its margin."""
    alpha_share: Annotated[float, Field(gt=0)] = 1.0
    """Part of `false_rollback` that the metric gets, relative to the other blocking ones."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.needed and not self.blocks:
            raise ValueError("needed is true where blocks is false: what promotion waits for must also stop a release")
        return self


class Events(Metric):
    """A bad outcome of a request: counted, compared as the ratio of the canary's rate to the baseline's."""

    tolerated_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Largest ratio that is no harm."""
    margin_ratio: Annotated[float, Field(gt=1)] = 1.5
    """Smallest ratio that must not be promoted."""
    margin_rate: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """Share of requests below which the ratio does not matter: rarer events than that may be promoted."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.margin_ratio <= self.tolerated_ratio:
            raise ValueError(f"margin_ratio ({self.margin_ratio}) must exceed tolerated_ratio ({self.tolerated_ratio})")
        return self


class Quantile(Metric):
    """One quantile of the latency, compared as the ratio of the canary's to the baseline's."""

    quantile: Annotated[float, Field(ge=0.5, lt=1)]
    """Which: 0.95 is the latency that one request in twenty exceeds."""
    tolerated_ratio: Annotated[float, Field(ge=1)] = 1.05
    """Largest ratio that is no harm; rounded up to whole histogram bins of 1.1 %."""
    margin_ratio: Annotated[float, Field(gt=1)] = 1.25
    """Smallest ratio that must not be promoted; rounded down to whole histogram bins of 1.1 %."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if bins_down(self.margin_ratio) <= bins_up(self.tolerated_ratio):
            what = f"margin_ratio ({self.margin_ratio}) must exceed tolerated_ratio ({self.tolerated_ratio})"
            raise ValueError(f"{what} by a histogram bin of 1.1 %")
        return self


class Bounded(Metric):
    """A mean in its own unit, with what is tolerated and what must not be promoted."""

    tolerated: Annotated[float, Field(ge=0, lt=1)]
    """Largest value that is no harm."""
    margin: Annotated[float, Field(gt=0, lt=1)]
    """Smallest value that must not be promoted."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.margin <= self.tolerated:
            raise ValueError(f"margin ({self.margin}) must exceed tolerated ({self.tolerated})")
        return self


class Flips(Bounded):
    """Share of mirrored requests that the two models decide differently."""

    tolerated: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Largest share that is no harm."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Smallest share that must not be promoted."""


class Shift(Bounded):
    """Distance between the mean scores of canary and baseline, in either direction; scores lie in [0, 1]."""

    tolerated: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Largest distance that is no harm: a new model is meant to move scores."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Smallest distance that must not be promoted."""


class Labels(Bounded):
    """Mean of the canary's loss minus the baseline's on the same labelled request; losses lie in [0, 1]."""

    needed: bool = False
    """Labels may arrive days later, in the watch phase; promotion does not wait for them unless told to."""
    tolerated: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest mean difference that is no harm."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Smallest mean difference that must not be promoted."""


class Ramp(Config):
    """How the canary's weight grows: as far as the evidence bounds what it may cost."""

    damage: Annotated[float, Field(gt=0)] = 100.0
    """Bad outcomes, beyond those that the baseline would have had, that a release may cost while it is judged."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the bound on the excess of bad outcomes, at all times together."""
    first: Share = 0.01
    """Share of all traffic with which the canary starts, at most."""
    smallest: Share = 0.005
    """Share below which it does not fall while it is judged."""
    largest: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share beyond which it does not grow; the baseline gets the same, so at most one half."""
    growth: Annotated[float, Field(gt=1)] = 2.0
    """Largest factor from one step to the next."""
    step_seconds: Seconds = 30.0
    """How long a weight is held, and how far ahead the damage is bounded."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.smallest <= self.first <= self.largest:
            raise ValueError(f"smallest ≤ first ≤ largest is broken: {self.smallest}, {self.first}, {self.largest}")
        return self


class Policy(Config):
    """release.yaml, whole."""

    false_rollback: Probability = 0.01
    """Probability that a release without any harm is rolled back on evidence, over the whole release."""
    wrong_promotion: Probability = 0.05
    """Probability that a release which is as bad as any margin is promoted."""
    events: dict[str, Events] = Field(
        default_factory=lambda: {"errors": Events(), "timeouts": Events(), "invalid_outputs": Events()}
    )
    """Bad outcomes of a request, by name."""
    latency: dict[str, Quantile] = Field(
        default_factory=lambda: {"p95": Quantile(quantile=0.95), "p99": Quantile(quantile=0.99)}
    )
    """Quantiles of the latency, by name. A slow tail of 2 % is seen by p99 and missed by p95."""
    flips: Flips | None = Flips()
    """Decisions on mirrored requests; null: not judged."""
    shift: Shift | None = Shift(blocks=False, needed=False)
    """Scores; null: not judged."""
    labels: Labels | None = Labels()
    """Delayed labels; null: not judged."""
    ramp: Ramp = Ramp()
    bin_seconds: Seconds = 5.0
    """Span that the judge takes as one unit where failures come in bursts; bursts should not last much longer."""
    burst_correlation: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest correlation, within a bin, of the arms in which two failures happen, that healthy pools may show."""
    outage_rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Largest share of requests that a healthy pool may fail during a burst; more than that is no burst."""
    min_seconds: Annotated[float, Field(ge=0)] = 120.0
    """Time before which nothing is promoted."""
    deadline_seconds: Seconds = 3600.0
    """Time after which an undecided release is inconclusive."""
    at_deadline: Literal["roll_back", "hold"] = "roll_back"
    """What an inconclusive release comes to."""
    no_traffic_seconds: Seconds = 60.0
    """Time without one request to the canary after which the release is held."""
    watch_seconds: Annotated[float, Field(ge=0)] = 86_400.0
    """How long after promotion the previous champion stays warm and labels may still roll back."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_seconds >= self.deadline_seconds:
            raise ValueError(f"min_seconds ({self.min_seconds}) must lie before deadline_seconds")
        if not any(metric.needed for metric in self.metrics.values()):
            raise ValueError("no metric is needed: a release would be promoted without evidence")
        for name in (*self.events, *self.latency):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"metric name {name!r} must be lower case letters, digits and underscores")
        return self

    @property
    def metrics(self) -> dict[str, Metric]:
        """All that are judged, by full name: `events.errors`, `latency.p95`, `flips`, `shift`, `labels`."""
        found: dict[str, Metric] = {f"events.{name}": metric for name, metric in self.events.items()}
        found |= {f"latency.{name}": metric for name, metric in self.latency.items()}
        alone = {"flips": self.flips, "shift": self.shift, "labels": self.labels}
        return found | {name: metric for name, metric in alone.items() if metric is not None}

    @property
    def digest(self) -> str:
        """SHA-256 of all values; a state belongs to one policy."""
        return config.digest(self)


def load(path: Path = FILE) -> Policy:
    """The policy of this repository; the defaults where it has no release.yaml.

    Raises:
        ConfigError: a key is unknown, or a value breaks a rule or contradicts another.
    """
    return config.load(path, Policy) if path.exists() else Policy()
