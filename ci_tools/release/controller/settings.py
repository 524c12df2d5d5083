"""How the controller works; what a release may cost and must prove is release.yaml's."""

from typing import Annotated

from pydantic import Field

from ci_tools.config import Config
from ci_tools.release.plan import LEASE_SECONDS

Seconds = Annotated[float, Field(gt=0)]


class Settings(Config):
    """Of one controller."""

    tick_seconds: Seconds = 0.1
    """Between two looks at logs and servers."""
    save_seconds: Seconds = 1.0
    """Between two writings of the judge's state, where nothing was decided."""
    decide_seconds: Seconds = 0.3
    """Between two decisions of the judge, where nothing new is harmful; harm is decided on at once."""
    lease_seconds: Seconds = LEASE_SECONDS
    """For which weights are lent; renewed three times in that span at least."""
    mirror_seconds: Annotated[float, Field(ge=0)] = 10.0
    """Shortest time in which the canary only gets copies."""
    mirror_copies: Annotated[int, Field(ge=1)] = 50
    """Copies that it must have answered before it answers anybody."""
    mirror_per_second: Annotated[float, Field(gt=0)] = 20.0
    """Copies per second beyond which only a share is mirrored: a canary with more load than the baseline looks slow."""
    ready_seconds: Seconds = 60.0
    """For which a server may be without an answer to its health check before its release is rolled back."""
    answer_seconds: Seconds = 12.0
    """Longest that a request takes, Envoy's deadline included: for which counts wait where one arm's are missing."""
    silent_seconds: Seconds = 3.0
    """For which Envoy may answer requests of which the access log does not tell; and for which the supervisor may be
    silent. Longer, and the weight is frozen."""
    grace_seconds: Annotated[float, Field(ge=0)] = 5.0
    """For which weights are lent on without telemetry."""
    join_seconds: Seconds = 0.1
    """For which every request waits to be counted, so that its prediction is there; the same for all arms."""
    pair_seconds: Seconds = 10.0
    """For which a mirrored request's answer waits for the other model's."""
