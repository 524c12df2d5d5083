"""The state machine: where a service stands and what is known, in; the next event, out.

    idle → mirroring → ramping → deciding → promoting → watching → idle
               └──────────┴─ held ─┘└─▶ idle (rolled back, or inconclusive)

Pure functions. An event that changes who gets which traffic carries the plan that follows, so that whoever reads the
ledger knows what is to be in force; the event is written first, then the plan.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ci_tools.release.control import Phase, Result
from ci_tools.release.controller import plans
from ci_tools.release.controller.settings import Settings
from ci_tools.release.controller.standing import Course, Kind, Standing
from ci_tools.release.judge import Action, Decision
from ci_tools.release.judge.telling import percent
from ci_tools.release.plan import Health, Plan

JUDGE, SERVICE = "judge", "service"
NO_STATISTIC = "This is no statistic: a server that does not run cannot be judged."


class Server(NamedTuple):
    """One role's model server, as the supervisor tells."""

    health: Health = Health.STARTING
    reason: str = ""
    """Why it ended last."""
    restarts: int = 0
    unready_seconds: float = 0.0
    """For how long it has not been ready."""


READY = Server(Health.READY)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known beside the ledger."""

    decision: Decision
    stable: Server = READY
    baseline: Server = READY
    canary: Server = READY
    in_force: bool = True
    """Whether the ledger's plan is, weights included."""
    serving: bool = True
    """Whether the plan's stable bundle answers all traffic that is its own."""
    trouble: str = ""
    """Why nothing that is counted can be believed just now; empty: it can."""
    waiting: bool = False
    """Whether counts are held back until slow answers have come."""
    exercised: bool = True
    """Whether the candidate had requests under its present weight: nothing was learnt from a weight without any."""
    copies: int = 0
    """Mirrored requests that the canary answered."""
    unanswered: int = 0
    """Mirrored rows to which it gave no valid answer; counted where harm is proven."""
    per_second: float = 0.0
    """Requests of all arms, of late."""
    phase_seconds: float = 0.0
    """Since the phase began."""
    seconds: float = 0.0
    """Since the release began."""
    watch_seconds: float = 0.0
    """For which the policy watches a new champion."""


class Move(NamedTuple):
    """An event that is to be written."""

    kind: Kind
    body: dict[str, Any]
    actor: str = SERVICE


def step(standing: Standing, facts: Facts, settings: Settings) -> Move | None:
    """The next event; None: nothing is to be done."""
    course = standing.course
    if course is None:
        return None
    match course.phase:
        case Phase.DECIDING:
            return _decided(standing, course, facts)
        case Phase.PROMOTING:
            return _promoting(standing, course, facts, settings)
        case Phase.WATCHING:
            return _watching(standing, course, facts)
        case Phase.MIRRORING | Phase.RAMPING | Phase.HELD:
            return _ended(standing, course, facts, settings) or _judged(standing, course, facts, settings)
    return None


def rolled_back(
    standing: Standing, course: Course, result: Result, reason: str, seconds: float, actor: str = SERVICE
) -> Move:
    """All traffic to the champion; of a release that was promoted already, to the champion before."""
    plan = plans.alone(standing, course.champion)
    return _move(Kind.ROLLED_BACK, reason, plan, actor, result=result.value, seconds=round(seconds, 3),
                 bundle=course.bundle, champion=course.champion)  # fmt: skip


def promoting(standing: Standing, course: Course, reason: str, seconds: float, actor: str = SERVICE) -> Move:
    """The candidate becomes champion, if the champion is still the one that it was compared with."""
    if course.champion != standing.champion:
        changed = f"The champion is {standing.champion[:12]} now and was {course.champion[:12]} when this was judged."
        return rolled_back(standing, course, Result.ROLLED_BACK, changed, seconds)
    plan = plans.promoted(standing, course.id, course.bundle)
    return _move(Kind.PROMOTING, reason, plan, actor, bundle=course.bundle, expected=course.champion)


def watched(standing: Standing, reason: str, actor: str = SERVICE) -> Move:
    """The champion before need not be kept warm any more."""
    return _move(Kind.WATCHED, reason, plans.alone(standing, standing.champion), actor)


def _decided(standing: Standing, course: Course, facts: Facts) -> Move:
    """Act on what is written down."""
    match course.decided:
        case Action.PROMOTE:
            return promoting(standing, course, course.reason, facts.seconds, JUDGE)
        case Action.INCONCLUSIVE:
            return rolled_back(standing, course, Result.INCONCLUSIVE, course.reason, facts.seconds, JUDGE)
    return rolled_back(standing, course, Result.ROLLED_BACK, course.reason, facts.seconds, JUDGE)


def _promoting(standing: Standing, course: Course, facts: Facts, settings: Settings) -> Move | None:
    if facts.serving:
        return Move(Kind.WATCHING, {"seconds": round(facts.seconds, 3), "reason": course.reason})
    if facts.stable.health is Health.FAILED:
        return _back(standing, course, f"The new champion's server failed: {_why(facts.stable)}.", facts)
    if facts.phase_seconds >= settings.ready_seconds:
        return _back(standing, course, f"The promotion was not in force after {facts.phase_seconds:.0f} s.", facts)
    return None


def _watching(standing: Standing, course: Course, facts: Facts) -> Move | None:
    """Labels are all that still judges; a champion that does not run needs no judge."""
    if facts.stable.health is Health.FAILED:
        return _back(standing, course, f"The new champion's server failed: {_why(facts.stable)}.", facts)
    if facts.decision.action is Action.ROLL_BACK:
        return _deciding(Action.ROLL_BACK, facts.decision)
    if facts.phase_seconds >= facts.watch_seconds:
        return watched(standing, f"The watch of {facts.watch_seconds:g} s is over.")
    return None


def _ended(standing: Standing, course: Course, facts: Facts, settings: Settings) -> Move | None:
    """What ends a release that is being judged, even where a person paused it: harm, and a canary that does not run."""
    canary, decision = facts.canary, facts.decision
    if canary.health is Health.FAILED:
        ended = f"The canary's server could not be kept running: {_why(canary)}. {NO_STATISTIC}"
        return _back(standing, course, ended, facts)
    if canary.unready_seconds >= settings.ready_seconds:
        what = f"The canary's server was not ready for {canary.unready_seconds:.0f} s"
        return _back(standing, course, f"{what}{f': {_why(canary)}' if canary.reason else ''}. {NO_STATISTIC}", facts)
    if decision.action is Action.ROLL_BACK:
        return _deciding(Action.ROLL_BACK, decision, _also(facts))
    if course.paused:
        return None
    if decision.action is Action.INCONCLUSIVE and decision.then is Action.ROLL_BACK:
        return _deciding(Action.INCONCLUSIVE, decision)
    return None


def _judged(standing: Standing, course: Course, facts: Facts, settings: Settings) -> Move | None:
    """Whether to hold, to go on, to promote, or to change the weight."""
    if course.paused:
        return None
    reasons = {"telemetry": facts.trouble, "baseline": _baseline(facts.baseline, settings)}
    if facts.decision.then is Action.HOLD:
        reasons["judge" if facts.decision.action is Action.HOLD else "deadline"] = facts.decision.sentence
    cause = next((name for name, reason in reasons.items() if reason), "")
    if cause:
        # The judge's sentence counts seconds: only another cause is news.
        return None if course.cause == cause else _move(Kind.HELD, reasons[cause], cause=cause)
    if course.phase is Phase.HELD:
        return _move(Kind.WENT_ON, f"What held it is over ({course.cause}).")
    if facts.decision.action is Action.PROMOTE and facts.canary.health is Health.READY:
        return _deciding(Action.PROMOTE, facts.decision)
    if standing.plan is None:
        return None
    weigh = _first_weight if course.phase is Phase.MIRRORING else _next_weight
    return weigh(standing.plan, facts, settings)


def _first_weight(plan: Plan, facts: Facts, settings: Settings) -> Move | None:
    ready = facts.canary.health is Health.READY and facts.baseline.health is Health.READY and facts.in_force
    if not ready or facts.phase_seconds < settings.mirror_seconds or facts.copies < settings.mirror_copies:
        return None
    after = plans.weighted(plan, facts.decision.weight, plans.mirror_share(facts.per_second, settings))
    reason = f"The canary answered {facts.copies:,} copies; it gets {percent(after.canary_weight)} of the traffic."
    return _move(Kind.RAMPING, reason, after)


def _next_weight(plan: Plan, facts: Facts, settings: Settings) -> Move | None:
    if facts.waiting or not facts.in_force or facts.decision.weight == plan.canary_weight:
        return None
    if facts.decision.weight > plan.canary_weight and not facts.exercised:
        return None
    after = plans.weighted(plan, facts.decision.weight, plans.mirror_share(facts.per_second, settings))
    reason = f"{percent(plan.canary_weight)} → {percent(after.canary_weight)}: {facts.decision.sentence}"
    return _move(Kind.WEIGHT, reason, after, JUDGE)


def _baseline(server: Server, settings: Settings) -> str:
    if server.health is Health.FAILED:
        return f"The baseline's server failed, there is nothing to compare with: {_why(server)}."
    if server.unready_seconds >= settings.ready_seconds:
        return f"The baseline's server was not ready for {settings.ready_seconds:.0f} s."
    return ""


def _deciding(action: Action, decision: Decision, also: str = "") -> Move:
    return _move(Kind.DECIDING, decision.sentence + also, None, JUDGE, action=action.value,
                 seconds=round(decision.seconds, 3), decision=decision.model_dump(mode="json"))  # fmt: skip


def _back(standing: Standing, course: Course, reason: str, facts: Facts) -> Move:
    return rolled_back(standing, course, Result.ROLLED_BACK, reason, facts.seconds)


def _also(facts: Facts) -> str:
    """What the judge's counts cannot tell: that the canary gave no answers, or why."""
    found, canary = "", facts.canary
    if facts.unanswered:
        found += f" {facts.unanswered:,} of the copies got no valid answer."
    if canary.restarts:
        times = "once" if canary.restarts == 1 else f"{canary.restarts} times"
        found += f" The canary's server ended {times} by itself, the last time: {canary.reason.rstrip('.')}."
    return found


def _why(server: Server) -> str:
    times = f"ended {server.restarts} times, " if server.restarts > 1 else ""
    return f"{times}{server.reason.rstrip('.') or 'the supervisor gives no reason'}"


def _move(kind: Kind, reason: str, plan: Plan | None = None, actor: str = SERVICE, **body: Any) -> Move:
    planned = {"plan": plan.model_dump(mode="json")} if plan else {}
    return Move(kind, {"reason": reason, **body, **planned}, actor)
