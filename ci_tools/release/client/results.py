"""What a command came to: text for people, JSON for machines, and an exit code."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ci_tools.errors import INTERRUPTED, SwitchbackError
from ci_tools.release.api import words
from ci_tools.release.api.tail import Seen
from ci_tools.release.api.view import Row, view
from ci_tools.release.client import layout
from ci_tools.release.control import Phase, Release, Result, Status
from ci_tools.release.judge import Decision

_NOTHING = Seen(head=None, events=(), weights=())
_CODES = {Result.PROMOTED: 0, Result.ROLLED_BACK: 1, Result.INCONCLUSIVE: 3}


@dataclass(frozen=True, kw_only=True)
class Released:
    """A release that was followed."""

    release: Release
    decision: Decision | None = None
    interrupted: bool = False
    """Whether it goes on without us."""
    already: bool = False
    """Whether nothing was begun: `release` made the bundle champion, or rolled it back, before anybody asked."""

    @property
    def exit_code(self) -> int:
        """0 promoted, 1 rolled back, 3 inconclusive, 130 not followed to the end."""
        if self.release.phase is Phase.WATCHING:
            return 0
        if self.release.result is None or self.interrupted:
            return INTERRUPTED
        return _CODES[self.release.result]

    def __str__(self) -> str:
        if self.exit_code == INTERRUPTED:
            return layout.folded(
                "The release goes on without this command. To follow it again, run the same command; to end it, "
                "`switchback rollback`."
            )
        if self.already and self.release.result is Result.PROMOTED:
            return layout.folded(
                f"Already champion: {words.short(self.release.bundle)}, since {_ended_at(self.release)} "
                f"({self.release.id}). Nothing has changed."
            )
        found = words.about(self.release)
        lines = [f"{found.title}: {words.short(self.release.bundle)} after {words.duration(self.release.seconds)}. "
                 f"{found.sentence}"]  # fmt: skip
        if self.decision:
            lines += [f"  {verdict.outcome:8} {verdict.sentence}" for verdict in self.decision.verdicts]
        if self.already:
            lines.append(f"That was at {_ended_at(self.release)} ({self.release.id}), and nothing has begun now. To "
                         "release the same bundle once more, say --again.")  # fmt: skip
        return "\n".join(map(layout.folded, lines))

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        decision = self.decision.model_dump(mode="json") if self.decision else None
        return {"release": self.release.model_dump(mode="json"), "decision": decision,
                "interrupted": self.interrupted, "already": self.already, "exit_code": self.exit_code}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The state of a service."""

    status: Status | None
    """None where the service does not answer."""
    error: SwitchbackError | None = None
    """Why it does not, or what does not fit in the ledger."""
    verified: int | None = None
    """Events of the ledger, each of which fits; None where nobody asked, or where one does not."""

    @property
    def exit_code(self) -> int:
        """0, or that of the error."""
        return self.error.exit_code if self.error else 0

    def __str__(self) -> str:
        parts = [_status_text(self.status)] if self.status else []
        if self.verified is not None:
            parts.append(f"ledger verified: {self.verified:,} events, each fits the one before")
        if self.error:
            parts.append(layout.folded(f"error: {self.error}"))
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        status = self.status.model_dump(mode="json") if self.status else None
        return {"status": status, "verified": self.verified, "error": str(self.error) if self.error else None,
                "exit_code": self.exit_code}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """An order that was taken."""

    status: Status
    exit_code: int = 0

    def __str__(self) -> str:
        found = words.said(self.status)
        return layout.folded(f"{found.title}: {found.sentence}")

    def to_json(self) -> dict[str, Any]:
        """The status after it."""
        return {"status": self.status.model_dump(mode="json"), "exit_code": self.exit_code}


def _ended_at(release: Release) -> str:
    at = datetime.fromisoformat(release.started) + timedelta(seconds=release.seconds)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _status_text(status: Status) -> str:
    seen = view(status, _NOTHING)
    head = [f"{seen.said.title}: {seen.said.sentence}"]
    head += [f"The judge: {seen.judge}"] if seen.judge else []
    head += [f"warning: {warning}" for warning in status.warnings]
    facts = [("champion", seen.champion), *((name.lower(), value) for name, value in seen.facts)]
    parts = ["\n".join(map(layout.folded, head)), layout.aligned(facts)]
    if seen.rows:
        parts.append(layout.table([("metric", "outcome", "canary", "baseline", "difference", "harm", "safety"),
                             *(_cells(row) for row in seen.rows)]))  # fmt: skip
    servers = [(m.name, m.role.value, m.health.value, words.short(m.bundle), str(m.restarts), m.reason)
               for m in status.actual.members]  # fmt: skip
    if servers:
        parts.append(layout.table([("server", "role", "health", "bundle", "restarts", "ended last because"), *servers]))
    actual = status.actual
    parts.append(layout.folded(f"plan {actual.serial}, {words.in_force(status)}; Envoy on port {actual.port}"))
    return "\n\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    return (row.name, row.outcome, row.canary, row.baseline, row.difference, row.harm_odds, row.safe_odds)
