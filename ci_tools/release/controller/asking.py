"""What people ask for: the event that follows, or why it makes no sense now. Pure functions."""

import math
from collections.abc import Mapping

from ci_tools.errors import ConfigError, DataError
from ci_tools.release.control import Phase, Result
from ci_tools.release.controller import machine, plans
from ci_tools.release.controller.counting import COUNTED
from ci_tools.release.controller.machine import Move, Server
from ci_tools.release.controller.standing import Course, Kind, Standing
from ci_tools.release.judge import Action, Decision, Policy
from ci_tools.release.plan import Health


def submit(standing: Standing, bundle: str, actor: str, policy: Policy, share: float) -> Move:
    """Begin a release; the first bundle of all has nothing to be compared with and is champion at once.

    Args:
        standing: of the service.
        bundle: digest.
        actor: who asks.
        policy: that the release will be judged by.
        share: of requests to mirror.

    Raises:
        ConfigError: another release is in progress, or the policy names outcomes that nobody counts.
    """
    _named(actor)
    course = standing.course
    if course and course.active:
        going = f"release {course.id} of bundle {course.bundle[:12]} is in progress ({course.phase})"
        raise ConfigError(going, rule="one release at a time", fix="await its end, or `switchback rollback` it")
    id_ = standing.next_release
    if not standing.champion:
        plan = plans.alone(standing, bundle, id_)
        reason = "The first bundle of all: there is none to compare it with."
        return Move(Kind.INSTALLED, {"bundle": bundle, "reason": reason, "plan": plan.model_dump(mode="json")}, actor)
    uncounted = sorted(policy.events.keys() - COUNTED)
    if uncounted:
        raise ConfigError(f"events.{uncounted[0]}: nobody counts it", where="release.yaml",
                          rule="silence is no zero", fix=f"use {', '.join(sorted(COUNTED))}")  # fmt: skip
    body = {
        "bundle": bundle,
        "champion": standing.champion,
        "previous": standing.previous,
        "reason": "",
        "policy": policy.model_dump(mode="json"),
        "plan": plans.mirrored(standing, id_, bundle, share).model_dump(mode="json"),
    }
    return Move(Kind.SUBMITTED, body, actor)


def pause(standing: Standing, actor: str, reason: str) -> Move:
    """Keep the weight. Harm still rolls back; the deadline waits.

    Raises:
        ConfigError: nothing is being judged, or it is paused already.
    """
    course = _judged(standing)
    if course.paused:
        raise ConfigError(f"{course.id} is paused already: {course.reason}", fix="`switchback resume`")
    return Move(Kind.PAUSED, {"reason": _because(actor, reason)}, actor)


def resume(standing: Standing, actor: str, reason: str) -> Move:
    """Go on after `pause`.

    Raises:
        ConfigError: nobody paused it.
    """
    course = _judged(standing)
    if not course.paused:
        held = f"it is held and goes on by itself when that ends: {course.reason}" if course.cause else "it goes on"
        raise ConfigError(f"nobody paused {course.id}; {held}", fix="`switchback status` shows its phase")
    return Move(Kind.RESUMED, {"reason": _because(actor, reason)}, actor)


def roll_back(standing: Standing, actor: str, reason: str, seconds: float) -> Move:
    """All traffic to the champion; in the watch phase, back to the champion before.

    Raises:
        ConfigError: there is nothing to roll back, or nothing to return to.
    """
    course, because = standing.course, _because(actor, reason)
    if course is None or course.phase is Phase.IDLE:
        where = f"all traffic is on the champion {standing.champion[:12]}" if standing.champion else "nothing is served"
        raise ConfigError(f"there is nothing to roll back: {where}, and no release is in progress or watched",
                          fix="to return to an older bundle, `switchback release DIGEST`")  # fmt: skip
    return machine.rolled_back(standing, course, Result.ROLLED_BACK, because, seconds, actor)


def promote(
    standing: Standing, decision: Decision | None, canary: Server, seconds: float, actor: str, reason: str
) -> Move:
    """Do not wait for the judge. Its proof of harm stands above a person's word: change the policy, then begin anew.

    Args:
        standing: of the service.
        decision: the judge's, just now.
        canary: its server.
        seconds: since the release began.
        actor: who asks.
        reason: why.

    Raises:
        ConfigError: nothing is being judged, the judge has proven harm, or the canary does not run.
    """
    course, because = _judged(standing), _because(actor, reason)
    if decision and decision.action is Action.ROLL_BACK:
        fix = "set `blocks: false` for that metric in release.yaml and release the bundle again, if you want that harm"
        what = f"the judge has proven harm: {decision.sentence}"
        raise ConfigError(what, rule="proven harm is not promoted", fix=fix)
    if canary.health is not Health.READY:
        rule = "only what runs is promoted"
        raise ConfigError(f"the canary's server is {canary.health}", rule=rule, fix="wait until it is ready")
    return machine.promoting(standing, course, because, seconds, actor)


def labels(values: Mapping[str, float]) -> None:
    """Check true outcomes.

    Raises:
        DataError: names the first that is not in [0, 1].
    """
    for id_, label in values.items():
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise DataError(f"label of {id_!r} is not a number: {label!r}", where="labels", fix="send 0, 1 or between")
        if not 0 <= label <= 1:
            raise DataError(
                f"label of {id_!r} lies outside [0, 1]: {label}", where="labels", fix="send 0, 1 or between"
            )


def _judged(standing: Standing) -> Course:
    course = standing.course
    if course is None or not course.judged:
        now = f"{course.id} is {course.phase}" if course and course.phase is not Phase.IDLE else "no release runs"
        raise ConfigError(f"nothing is being judged: {now}", fix="`switchback release BUNDLE` begins one")
    return course


def _named(actor: str) -> None:
    if not actor.strip():
        raise ConfigError("no actor", rule="the ledger says who did what", fix="say who asks")


def _because(actor: str, reason: str) -> str:
    _named(actor)
    if not reason.strip():
        raise ConfigError("no reason", rule="the ledger says why", fix="say it with --reason")
    return f"{actor}: {reason.strip()}"
