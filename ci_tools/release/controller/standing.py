"""Where a service stands: what its ledger says, put together.

Pure functions. Law: fold(events) == apply(fold(events[:-1]), events[-1]).
"""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import Field

from ci_tools.config import Config
from ci_tools.release.control import Event, Phase, Result
from ci_tools.release.judge import Action, Decision, Policy
from ci_tools.release.plan import Plan


class Kind(StrEnum):
    """Of the ledger's events."""

    STARTED = "started"
    """A controller began to work; nothing else changes."""
    INSTALLED = "installed"
    """The first bundle of all became champion, unjudged."""
    SUBMITTED = "submitted"
    RAMPING = "ramping"
    WEIGHT = "weight"
    HELD = "held"
    WENT_ON = "went on"
    """What held the release is over."""
    PAUSED = "paused"
    RESUMED = "resumed"
    DECIDING = "deciding"
    PROMOTING = "promoting"
    WATCHING = "watching"
    ROLLED_BACK = "rolled back"
    """Also at the deadline, and in the watch phase; `result` tells."""
    WATCHED = "watched"
    """The watch is over: the champion before need not be kept warm any more."""


class Course(Config):
    """One release so far."""

    id: str
    bundle: str
    champion: str
    """That it is compared with, and to which it returns; empty for the first."""
    previous: str = ""
    """Champion before that one, which is `previous` again after a return."""
    phase: Phase
    goes_on: Phase | None = None
    """Phase behind `held`."""
    cause: str = ""
    """What holds it."""
    paused: bool = False
    decided: Action | None = None
    """What is to be done, `inconclusive` standing for the return at the deadline; None but while deciding."""
    decision: Decision | None = None
    """What the judge saw when the release was decided; None before, and where the judge was not asked."""
    result: Result | None = None
    reason: str = ""
    """The sentence that ended it, or that holds it; empty while it goes on."""
    started: str
    """ISO 8601, UTC."""
    seconds: float = 0.0
    """That it took; 0 before its end."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """Values that it began with: budgets are spent over a whole release, so the file may change meanwhile."""
    serials: dict[int, tuple[float, float]] = Field(default_factory=dict)
    """Weights of canary and baseline under each of its plans."""

    @property
    def active(self) -> bool:
        """Whether it is still being judged or promoted."""
        return self.phase not in (Phase.IDLE, Phase.WATCHING)

    @property
    def judged(self) -> bool:
        """Whether the judge may still end it."""
        return self.phase in (Phase.MIRRORING, Phase.RAMPING, Phase.HELD)

    def judge_policy(self) -> Policy:
        """The policy that it began with."""
        return Policy.model_validate(self.policy)


class Standing(Config):
    """All that the ledger's events come to."""

    seq: int = 0
    """Of the last event."""
    releases: int = 0
    """Begun so far."""
    champion: str = ""
    previous: str = ""
    plan: Plan | None = None
    """That is to be in force; None before the first bundle."""
    course: Course | None = None
    """The release in progress or watched; else the last one."""
    reigns: dict[str, Course] = Field(default_factory=dict)
    """By bundle, the release that made it champion."""

    @property
    def bundles(self) -> set[str]:
        """Digests that a release or a return may still need."""
        course = self.course
        found = {self.champion, self.previous, *(self.plan.pools.values() if self.plan else ())}
        found |= {course.bundle, course.champion, course.previous} if course else set()
        return found - {""}

    @property
    def next_release(self) -> str:
        """Id of the release that begins next."""
        return f"r{self.releases + 1}"

    @property
    def serial(self) -> int:
        """Of the next plan."""
        return self.plan.serial + 1 if self.plan else 1


def fold(events: Iterable[Event], start: Standing | None = None) -> Standing:
    """What events come to, in their order."""
    standing = start or Standing()
    for event in events:
        standing = apply(standing, event)
    return standing


def apply(standing: Standing, event: Event) -> Standing:
    """What comes of one event more."""
    changes: dict[str, Any] = {"seq": event.seq}
    plan = Plan.model_validate_json(json.dumps(event.body["plan"])) if "plan" in event.body else None
    if plan:
        changes["plan"] = plan
    kind, course = Kind(event.kind), standing.course
    if kind in (Kind.INSTALLED, Kind.SUBMITTED):
        course = _begun(kind, event)
        changes["releases"] = standing.releases + 1
    elif course and kind is not Kind.STARTED:
        course = course.model_copy(update=_course_changes(kind, course, event.body))
    if course and plan and plan.release == course.id:
        weights = (plan.canary_weight, plan.baseline_weight)
        course = course.model_copy(update={"serials": {**course.serials, plan.serial: weights}})
    changes["course"] = course
    if course and kind in (Kind.INSTALLED, Kind.PROMOTING):
        changes |= {"champion": course.bundle, "previous": standing.champion}
    elif course and kind is Kind.ROLLED_BACK and standing.champion != course.champion:
        changes |= {"champion": course.champion, "previous": course.previous}
    standing = standing.model_copy(update=changes)
    if course and course.bundle == standing.champion:
        reigns = {**standing.reigns, course.bundle: course}
        standing = standing.model_copy(update={"reigns": reigns})
    return standing


def _begun(kind: Kind, event: Event) -> Course:
    body, installed = event.body, kind is Kind.INSTALLED
    return Course(
        id=event.release,
        bundle=body["bundle"],
        champion=body.get("champion", ""),
        previous=body.get("previous", ""),
        phase=Phase.IDLE if installed else Phase.MIRRORING,
        result=Result.PROMOTED if installed else None,
        reason=body["reason"],
        started=event.at,
        policy=body.get("policy", {}),
    )


def _course_changes(kind: Kind, course: Course, body: dict[str, Any]) -> dict[str, Any]:
    """What an event changes in the release that it belongs to."""
    free = {"goes_on": None, "cause": "", "decided": None, "reason": body.get("reason", "")}
    under_way = free | {"reason": ""}  # what began or resumed it is no news once the weight has grown
    behind = course.goes_on if course.phase is Phase.HELD else course.phase
    match kind:
        case Kind.RAMPING:
            return {"phase": Phase.RAMPING, **under_way}
        case Kind.HELD:
            return {"phase": Phase.HELD, **free, "goes_on": behind, "cause": body["cause"]}
        case Kind.PAUSED:
            return {"phase": Phase.HELD, **free, "goes_on": behind, "cause": "paused", "paused": True}
        case Kind.WENT_ON | Kind.RESUMED:
            return {"phase": behind, **under_way, "paused": False}
        case Kind.DECIDING:
            seen = _decision(body)
            return {
                "phase": Phase.DECIDING,
                **free,
                "decided": Action(body["action"]),
                "decision": seen,
                "paused": False,
            }
        case Kind.PROMOTING:
            return {"phase": Phase.PROMOTING, **free, "paused": False}
        case Kind.WATCHING:
            return {"phase": Phase.WATCHING, "result": Result.PROMOTED, "seconds": body["seconds"]}
        case Kind.ROLLED_BACK:
            seen = _decision(body) or course.decision
            ended = {"result": Result(body["result"]), "seconds": body["seconds"], "decision": seen}
            return {"phase": Phase.IDLE, **free, **ended, "paused": False}
        case Kind.WATCHED:
            return {"phase": Phase.IDLE}
    return {}


def _decision(body: dict[str, Any]) -> Decision | None:
    return Decision.model_validate_json(json.dumps(body["decision"])) if "decision" in body else None
