"""What the controller asks of the supervisor, and what the supervisor answers: two files and a lease.

    controller ── plan.json, lease.json ──▶ supervisor ── Envoy's files, model servers
    controller ◀───────── actual.json ───── supervisor

Either may die at any time and read the files again. Times are seconds of `time.clock_gettime(time.CLOCK_BOOTTIME)`,
which no clock change moves and which all processes of a machine share.
"""

import time
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from ci_tools.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
LEASE_SECONDS = 3.0
"""How long a lease holds. It is renewed several times in that span."""


class Role(StrEnum):
    """What a model server is for."""

    STABLE = "stable"
    """Has the champion, and all traffic that nobody else gets."""
    BASELINE = "baseline"
    """The champion's bundle in a fresh process: what the canary is compared with."""
    CANARY = "canary"
    """The release under judgement."""
    PREVIOUS = "previous"
    """The champion before, kept warm while the new one is watched."""


class Plan(Config):
    """The state that the service should be in."""

    serial: Annotated[int, Field(ge=1)]
    """Grows by one with every plan; requests carry it in the access log as their route."""
    release: str = ""
    """Id of the release that it serves; empty between releases."""
    pools: dict[Role, str] = Field(default_factory=dict)
    """Bundle digest per role. A role that is not named has no server; without `stable` nothing is served."""
    canary_weight: Share = 0.0
    """Share of all traffic that goes to the canary."""
    baseline_weight: Share = 0.0
    """Share of all traffic that goes to the baseline; the rest goes to stable."""
    mirror_share: Share = 0.0
    """Share of stable's and baseline's requests of which the canary gets a copy; its answer reaches nobody."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.canary_weight + self.baseline_weight > 1 + 1e-9:
            raise ValueError("canary_weight and baseline_weight exceed 1 together")
        for role, weight in (
            (Role.CANARY, max(self.canary_weight, self.mirror_share)),
            (Role.BASELINE, self.baseline_weight),
        ):
            if weight > 0 and role not in self.pools:
                raise ValueError(f"{role} gets traffic and has no bundle")
        if self.pools and Role.STABLE not in self.pools:
            raise ValueError("pools without stable: traffic would have nowhere to return to")
        return self

    def safe(self) -> Self:
        """The same servers, with all traffic on stable: what holds when the lease does not."""
        return self.model_copy(update={"canary_weight": 0.0, "baseline_weight": 0.0, "mirror_share": 0.0})


class Lease(Config):
    """Until when a plan's weights hold. Behind it, or under another serial, `Plan.safe` holds."""

    serial: int
    until: float
    """Boot time, in seconds."""


class Health(StrEnum):
    """Of a model server."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Gets no new requests and ends when those that it has are answered."""
    FAILED = "failed"
    """Could not be started, or ended too often; `Member.reason` says why. It is not tried again."""


class Member(Config):
    """One model server."""

    name: str
    """Unique in the service's life, such as m17."""
    role: Role
    bundle: str
    health: Health
    port: int
    pid: int
    restarts: int = 0
    """How often it ended by itself and was started again."""
    reason: str = ""
    """Why it ended last: exit code or signal, and the last line that it wrote."""


class Actual(Config):
    """The state that the service is in."""

    serial: int = 0
    """Of the plan that is in force."""
    leased: bool = False
    """Whether its weights are; else all traffic is on stable."""
    since: float = 0.0
    """Boot time at which Envoy got the present weights."""
    members: tuple[Member, ...] = ()
    port: int = 0
    """Of Envoy's listener, on which clients send requests."""
    admin_port: int = 0
    """Of Envoy's administration, on loopback."""
    envoy_pid: int = 0
    envoy_restarts: int = 0
    heartbeat: float = 0.0
    """Boot time at which this was written; at least once a second."""

    def ready(self, role: Role, bundle: str) -> bool:
        """Whether a server of that role answers with that bundle."""
        return any(m.role == role and m.bundle == bundle and m.health is Health.READY for m in self.members)


def boot_time() -> float:
    """Seconds since the machine was started, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
