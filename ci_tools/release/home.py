"""Where a release service keeps its files. One process writes each of them, others only read it."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT = Path(".switchback/release")
LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path, at most: unix(7) without the final zero."""


@dataclass(frozen=True)
class Home:
    """The folder of one release service."""

    path: Path = DEFAULT

    @property
    def bundles(self) -> Path:
        """Registry: one folder per bundle, named by its digest. Never changed; old ones that nobody needs go."""
        return self.path / "bundles"

    @property
    def ledger(self) -> Path:
        """What happened, hash-chained. Written by the controller."""
        return self.path / "ledger.db"

    @property
    def plan(self) -> Path:
        """What should run and who gets which traffic. Written by the controller."""
        return self.path / "plan.json"

    @property
    def lease(self) -> Path:
        """How long the plan's weights hold. Written by the controller."""
        return self.path / "lease.json"

    @property
    def actual(self) -> Path:
        """What does run, and which traffic it gets. Written by the supervisor."""
        return self.path / "actual.json"

    @property
    def access_log(self) -> Path:
        """One line of JSON per request that Envoy answered."""
        return self.path / "logs" / "access.jsonl"

    def predictions(self, member: str) -> Path:
        """One line of JSON per request that a model server answered. Written by that server."""
        return self.path / "logs" / f"predictions-{member}.jsonl"

    @property
    def envoy(self) -> Path:
        """Envoy's configuration. Written by the supervisor."""
        return self.path / "envoy"

    @property
    def judged(self) -> Path:
        """The judge's state, and how far the logs were counted into it. Written by the controller."""
        return self.path / "judged.json"

    @property
    def pairs(self) -> Path:
        """Scores of mirrored requests, which wait for their labels. Written by the controller."""
        return self.path / "pairs.db"

    @property
    def socket(self) -> Path:
        """The control API."""
        return self.path / "control.sock"
