"""What the judge says: a verdict per metric, and one decision. Both lists are ordered by severity."""

from collections.abc import Iterable
from enum import StrEnum

from ci_tools.config import Config


class Outcome(StrEnum):
    """Of one metric, from best to worst."""

    SAFE = "safe"
    """Proven to be no worse than the margin."""
    OPEN = "open"
    """Evidence for neither yet."""
    NO_DATA = "no data"
    """Nothing to judge by, which is never a pass."""
    HARMFUL = "harmful"
    """Proven to be worse than tolerated."""

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Outcome).index(self)


class Action(StrEnum):
    """Of the release, from best to worst."""

    PROMOTE = "promote"
    CONTINUE = "continue"
    HOLD = "hold"
    """Keep the weight and wait: there is no traffic to judge by, or counts cannot be believed."""
    INCONCLUSIVE = "inconclusive"
    """The deadline has come without evidence for either; `Decision.then` says what follows."""
    ROLL_BACK = "roll back"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Action).index(self)


class Verdict(Config):
    """One metric, with all that a person needs."""

    metric: str
    outcome: Outcome
    blocks: bool
    needed: bool
    counts: dict[str, int]
    log10_harm: float
    """Largest e-value so far against "no worse than tolerated", as a power of ten."""
    log10_harm_needed: float
    """At which the release is rolled back."""
    log10_safe: float
    """E-value now against "as bad as the margin", as a power of ten."""
    log10_safe_needed: float
    """At which the metric counts as safe."""
    trace: tuple[tuple[float, float, float], ...]
    """Points (seconds, log10 of the e-value for harm, for safety)."""
    interval: tuple[float, float] | None
    """Where the difference lies at all times together; None without data."""
    unit: str
    """Of the interval."""
    sentence: str


class Decision(Config):
    """What to do now, and why."""

    action: Action
    then: Action
    """What is to be done; differs from `action` only where that is `inconclusive`."""
    seconds: float
    """Since the release began."""
    weight: float
    """Share of all traffic that the canary should get next."""
    sentence: str
    verdicts: tuple[Verdict, ...]


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """The worst outcome; no data if there are none."""
    return max((verdict.outcome for verdict in verdicts), key=lambda one: one.rank, default=Outcome.NO_DATA)
