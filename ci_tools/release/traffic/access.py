"""Envoy's access log: one entry per inference request that was routed to a pool."""

from typing import Any, NamedTuple

from ci_tools.release.plan import Role
from ci_tools.release.traffic.lines import KEPT as KEPT
from ci_tools.release.traffic.lines import LineLog
from ci_tools.release.traffic.lines import Position as Position
from ci_tools.release.traffic.lines import rotate as rotate
from ci_tools.release.traffic.lines import rotated as rotated

SAFE = "-safe"
"""Behind the plan's serial in a route's name: the plan's weights were not in force, all traffic went to stable."""
ARMS = {role.value: role for role in (Role.STABLE, Role.BASELINE, Role.CANARY)}
ERRORS, TIMEOUTS, INVALID = "errors", "timeouts", "invalid_outputs"


class Entry(NamedTuple):
    """One inference request, as its client saw it."""

    serial: int
    """Of the plan that routed it."""
    leased: bool
    """Whether that plan's weights were in force."""
    arm: Role
    """Pool of the first attempt, whoever answered in the end."""
    event: str | None
    """Bad outcome: `errors`, `timeouts` or `invalid_outputs`; None where it went well."""
    ms: float
    """From the last byte of the request to the first of the response, attempts and queues included."""
    id: str
    """Its x-request-id, as in the prediction logs."""
    t: float
    """Arrival, in seconds since the epoch."""


class AccessLog(LineLog[Entry]):
    """Requests that were routed to no pool, such as health checks and refused ones, have no entry."""

    def _value(self, raw: dict[str, Any]) -> Entry | None:
        return entry(raw) if raw["arm"] in ARMS else None


def entry(raw: dict[str, Any]) -> Entry:
    """One line's values, as `bootstrap.LINE` names them.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: they are not those of a request that was routed.
    """
    route = raw["route"]
    leased = not route.endswith(SAFE)
    spent = raw["us"]
    return Entry(
        int(route if leased else route.removesuffix(SAFE)),
        leased,
        ARMS[raw["arm"]],
        event(raw["code"], raw["flags"] or "", raw["attempts"], raw["event"]),
        raw["ms"] if spent is None else spent / 1000,
        raw["id"],
        float(raw["t"]),
    )


def event(code: int, flags: str, attempts: int | None, header: str | None) -> str | None:
    """What went wrong with a request, or None.

    A client that hung up before its answer (code 0) counts as a timeout: nobody waits for ever. A second attempt means
    that the first one failed, though the client never knew.
    """
    if code in (0, 504) or "UT" in flags.split(","):
        return TIMEOUTS
    if header == INVALID:
        return INVALID
    return ERRORS if code >= 500 or (attempts or 0) > 1 else None
