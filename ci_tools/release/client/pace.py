"""How long a release takes: what its policy says at the beginning, and what the evidence so far foretells."""

import math

from ci_tools.release.api import words
from ci_tools.release.control import Release, Status
from ci_tools.release.judge import Decision, Outcome, Verdict

_POINTS = 3
"""Of a metric's evidence over time, below which nothing is foretold."""


def expected(release: Release, per_second: float) -> list[str]:
    """What awaits a release that begins, in sentences; none for the first bundle, which is not judged.

    Args:
        release: that begins.
        per_second: requests of clients, of late.
    """
    terms = release.terms
    if terms is None:
        return []
    time = (
        f"Promotion takes {words.duration(terms.min_seconds)} at least; what is not decided after "
        f"{words.duration(terms.deadline_seconds)} is inconclusive."
    )
    watch = (
        f"After a promotion the champion before stays warm for {words.duration(terms.watch_seconds)}; "
        "this command does not wait for that."
    )
    if not per_second:
        return [time, watch, "No requests come now: without traffic nothing can be proven."]
    traffic = (
        f"Clients send {words.rate(per_second)} now. The canary gets {words.percent(terms.first)} of them at first and "
        f"{words.percent(terms.largest)} at most: the fewer requests, the longer it takes."
    )
    return [time, watch, traffic]


def foretold(status: Status) -> str:
    """When promotion's evidence will be complete if it goes on as it did of late; empty where nothing can be said."""
    release, decision = status.release, status.decision
    if release is None or decision is None or release.terms is None:
        return ""
    more = remaining(decision)
    if more is None:
        return ""
    left = release.terms.deadline_seconds - decision.seconds
    traffic = f"at {words.rate(status.per_second)}"
    if math.isinf(more):
        return f"It does not grow now, {traffic}; the deadline is in {words.duration(max(left, 0))}."
    if more > left:
        return (
            f"It grows slowly {traffic}: about {words.duration(round(more))} more at this pace, and the deadline is in "
            f"{words.duration(max(left, 0))}."
        )
    return f"About {words.duration(round(more))} more at this pace."


def remaining(decision: Decision) -> float | None:
    """Seconds until the metric that takes longest is proven, if evidence grows as in the last half of the time so far.

    Returns:
        Infinity where that of one metric does not grow; None where it is too early to say, or nothing lacks.
    """
    lacking = [one for one in decision.verdicts if one.needed and one.outcome is not Outcome.SAFE]
    found = [_remaining(one, decision.seconds) for one in lacking]
    known = [one for one in found if one is not None]
    return max(known) if known and len(known) == len(found) else None


def _remaining(verdict: Verdict, now: float) -> float | None:
    points = [(seconds, safe) for seconds, _, safe in verdict.trace if seconds <= now / 2]
    if not points or len(verdict.trace) < _POINTS:
        return None
    since, before = points[-1]
    pace = (verdict.log10_safe - before) / (now - since)
    return (verdict.log10_safe_needed - verdict.log10_safe) / pace if pace > 0 else math.inf
