"""What people and programs may ask of a running release service, and what they are told.

`Control` is what the controller offers and the API speaks to; the models are also the API's JSON.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from ci_tools.config import Config
from ci_tools.release.judge import Decision
from ci_tools.release.plan import Actual


class Phase(StrEnum):
    """Where a release is."""

    IDLE = "idle"
    MIRRORING = "mirroring"
    """The canary gets copies of requests and answers nobody."""
    RAMPING = "ramping"
    DECIDING = "deciding"
    """A verdict is written down and not yet acted on."""
    PROMOTING = "promoting"
    WATCHING = "watching"
    """Promoted; the champion before is kept warm, and labels may still roll back."""
    HELD = "held"
    """Somebody paused it, there is no traffic, or telemetry is lost: weights grow no more."""


class Result(StrEnum):
    """How a release ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    INCONCLUSIVE = "inconclusive"
    """Nothing was proven by the deadline, and the policy's action was taken."""


class Event(Config):
    """One line of the ledger."""

    seq: int
    at: str
    """ISO 8601, UTC."""
    kind: str
    actor: str
    """Who: `judge`, `service`, or the name that a person gave."""
    release: str
    """Id of the release; empty where it belongs to none."""
    body: dict[str, Any]
    sha256: str
    """Of this event and, through the one before it, of all before."""


class Terms(Config):
    """How long a release may take and how much traffic it gets: of the policy that it began with."""

    min_seconds: float
    """Before which nothing is promoted."""
    deadline_seconds: float
    """At which it is decided at the latest."""
    watch_seconds: float
    """For which the champion before stays warm after a promotion."""
    first: float
    """Share of all traffic that the canary gets at first, at most."""
    largest: float
    """Share beyond which it does not grow."""


class Release(Config):
    """One bundle's way to champion, or back."""

    id: str
    bundle: str
    champion: str
    """Digest of the champion that it was compared with; empty for the first."""
    phase: Phase
    result: Result | None = None
    reason: str = ""
    """The sentence that ended it, or that holds it."""
    started: str
    seconds: float
    canary_weight: float = 0.0
    paused: bool = False
    """Whether a person holds it, rather than want of traffic, telemetry or a baseline."""
    terms: Terms | None = None
    """None for the first bundle of all, which is not judged."""


class Status(Config):
    """All that `switchback status` shows."""

    champion: str
    """Bundle digest; empty before the first."""
    previous: str
    release: Release | None = None
    """In progress or watched; else the last one."""
    decision: Decision | None = None
    """Of the judge, just now."""
    actual: Actual
    warnings: tuple[str, ...] = ()
    """What is wrong with the service itself: telemetry lost, a server that keeps ending, no traffic."""
    per_second: float = 0.0
    """Requests of clients that Envoy answers, of late."""
    controller_pid: int = 0


class Control(Protocol):
    """A running service. Every change names its `actor` and is in the ledger before it takes effect.

    All raise ConfigError where the request makes no sense now (the message says what would).
    """

    def status(self) -> Status:
        """What is going on."""

    def events(self, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events of the ledger behind number `after`, oldest first."""

    def add(self, bundle: Path) -> str:
        """Check a bundle and keep a copy of it in the registry; returns its digest. Changes nothing else."""

    def submit(self, bundle: str, actor: str, again: bool = False) -> Release:
        """Begin a canary of a bundle of the registry; where that very bundle is on its way, is the champion, or was
        the last one and was rolled back, its release. The first bundle of all becomes champion at once: there is
        nothing to compare it with.

        Args:
            bundle: digest.
            actor: who asks.
            again: begin anew where it was rolled back.
        """

    def pause(self, actor: str, reason: str) -> Status:
        """Keep the weight; nothing is promoted until `resume`. Harm still rolls back."""

    def resume(self, actor: str, reason: str) -> Status:
        """Go on after `pause`."""

    def roll_back(self, actor: str, reason: str) -> Status:
        """All traffic to the champion, at once; in the watch phase, back to the champion before."""

    def promote(self, actor: str, reason: str) -> Status:
        """Make the canary champion without waiting for the judge."""

    def label(self, labels: Mapping[str, float]) -> int:
        """True outcomes in [0, 1] by request id; returns how many belong to mirrored requests."""
