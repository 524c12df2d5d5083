"""What people are shown of a release, and of what is wrong with the service itself."""

from pydantic import ValidationError

from ci_tools.release.control import Release, Terms
from ci_tools.release.controller.standing import Course
from ci_tools.release.plan import Actual, Health, Plan


def release(course: Course, seconds: float, plan: Plan | None) -> Release:
    """One release.

    Args:
        course: of it.
        seconds: since it began, where it has not ended.
        plan: that is to be in force.
    """
    ours = plan is not None and plan.release == course.id and course.active
    return Release(
        id=course.id,
        bundle=course.bundle,
        champion=course.champion,
        phase=course.phase,
        result=course.result,
        reason=course.reason,
        started=course.started,
        seconds=course.seconds if course.result else seconds,
        canary_weight=plan.canary_weight if plan and ours else 0.0,
        paused=course.paused,
        terms=_terms(course),
    )


def _terms(course: Course) -> Terms | None:
    if not course.policy:
        return None
    try:
        policy = course.judge_policy()
    except ValidationError:  # of another version of Switchback
        return None
    return Terms(
        min_seconds=policy.min_seconds,
        deadline_seconds=policy.deadline_seconds,
        watch_seconds=policy.watch_seconds,
        first=policy.ramp.first,
        largest=policy.ramp.largest,
    )


def warnings(actual: Actual, trouble: str, failure: str, gaps: int) -> tuple[str, ...]:
    """What is wrong with the service.

    Args:
        actual: as the supervisor wrote it last.
        trouble: with telemetry.
        failure: of the controller's own work.
        gaps: times that a part of the access log was gone before it was counted.
    """
    found = [one for one in (trouble, failure) if one]
    if gaps:
        found.append(f"A part of the access log was gone before it was counted ({gaps} times).")
    for member in actual.members:
        who = f"{member.role}'s server {member.name}"
        if member.health is Health.FAILED:
            found.append(f"{who} failed: {member.reason}")
        elif member.restarts:
            found.append(f"{who} ended {member.restarts} times by itself, the last time: {member.reason}")
    if actual.envoy_restarts:
        found.append(f"Envoy ended {actual.envoy_restarts} times by itself.")
    return tuple(found)
