"""The states of a release in plain words: for the status page, `switchback status` and whoever follows a release."""

from typing import NamedTuple

from ci_tools.release.control import Phase, Release, Result, Status
from ci_tools.release.judge import Verdict
from ci_tools.release.judge.telling import percent as percent

SHORT = 12
"""Characters by which a digest is shown."""
MINUS = "\u2212"
MARKS = {"passed": "✓", "failed": "✗", "inconclusive": "?", "error": "‖", "active": "→", "calm": "·"}
"""By tone."""


class Said(NamedTuple):
    """Where things stand, for a person."""

    tone: str
    """passed, failed, inconclusive, error, active or calm: what it looks like."""
    title: str
    sentence: str


TITLES = {
    Phase.IDLE: "Idle",
    Phase.MIRRORING: "Mirroring",
    Phase.RAMPING: "Ramping",
    Phase.DECIDING: "Deciding",
    Phase.PROMOTING: "Promoting",
    Phase.WATCHING: "Promoted, and watched",
    Phase.HELD: "Held",
}
"""What each phase is called."""
MEANINGS = {
    Phase.IDLE: "The champion serves all traffic, and no release is on its way.",
    Phase.MIRRORING: "The canary gets copies of requests and answers nobody.",
    Phase.RAMPING: "The canary answers {weight} of the traffic and is compared with the baseline.",
    Phase.DECIDING: "The verdict is written down and is about to be carried out.",
    Phase.PROMOTING: "The canary becomes champion.",
    Phase.WATCHING: "The release is champion. The champion before stays warm, and labels may still roll back.",
    Phase.HELD: "The canary's weight stays as it is ({weight}), and nothing is promoted; harm still rolls back.",
}
"""What each phase means for traffic."""
ENDS = {
    Result.PROMOTED: Said("passed", "Promoted", "The release is champion and serves all traffic."),
    Result.ROLLED_BACK: Said("failed", "Rolled back", "The champion serves all traffic."),
    Result.INCONCLUSIVE: Said("inconclusive", "Inconclusive", "Nothing was proven by the deadline."),
}
"""How a release ends."""
METRICS = {
    "events.errors": "failed requests",
    "events.timeouts": "requests without an answer in time",
    "events.invalid_outputs": "answers that are not finite, or not as the manifest says",
    "flips": "mirrored requests that the two models decide differently",
    "shift": "mean score against the baseline's",
    "labels": "loss on labelled requests against the baseline's",
}
"""What a metric counts; those of release.yaml's own names speak for themselves."""
_JUDGED = (Phase.MIRRORING, Phase.RAMPING, Phase.HELD)
_TONES = {Phase.WATCHING: "passed", Phase.HELD: "error", Phase.IDLE: "calm"}


def said(status: Status) -> Said:
    """Where the service stands."""
    release = status.release
    if release is None or (release.phase is Phase.IDLE and release.result is None):
        if not status.champion:
            return Said("calm", "Nothing is served yet", "Requests get 503. The first bundle that is released becomes "
                        "champion at once.")  # fmt: skip
        return Said("calm", TITLES[Phase.IDLE], MEANINGS[Phase.IDLE])
    return about(release)


def about(release: Release) -> Said:
    """Where a release stands, or how it ended."""
    if release.result is not None and ended(release):
        end = ENDS[release.result]
        return end._replace(sentence=_joined(end.sentence, release.reason))
    meaning = MEANINGS[release.phase].format(weight=percent(release.canary_weight))
    return Said(_TONES.get(release.phase, "active"), TITLES[release.phase], _joined(meaning, release.reason))


def ended(release: Release) -> bool:
    """Whether nothing more becomes of it; one that is watched may still be rolled back."""
    return release.result is not None and release.phase is not Phase.WATCHING


def in_force(status: Status) -> str:
    """What the plan's weights come to now."""
    if status.actual.leased:
        return "in force"
    if not status.champion:
        return "not in force: no bundle is served, and requests get 503"
    return "not in force: all traffic is on the champion"


def under_way(release: Release | None) -> bool:
    """Whether a canary is being judged."""
    return release is not None and release.result is None and release.phase not in (Phase.IDLE, Phase.WATCHING)


def refusals(status: Status) -> dict[str, str]:
    """Per order (pause, resume, rollback, promote): why it makes no sense now; empty where it does."""
    phase = status.release.phase if status.release else Phase.IDLE
    paused = status.release.paused if status.release else False
    judged = "" if phase in _JUDGED else "no release is being judged"
    return {
        "pause": judged or ("the release is paused" if paused else ""),
        "resume": judged or ("" if paused else "nobody paused the release"),
        "rollback": "there is nothing to roll back" if phase is Phase.IDLE else "",
        "promote": judged,
    }


def rate(per_second: float) -> str:
    """Law: rate(0.5) == "0.5 requests per second"."""
    digits = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
    return f"{digits} requests per second"


def short(digest: str) -> str:
    """The beginning of a digest, or that there is none."""
    return digest[:SHORT] or "none"


def odds(log10: float) -> str:
    """An e-value as a person reads it: "1,200 to 1"."""
    if log10 > 6:
        return "over a million to 1"
    value = 10.0 ** max(log10, -9.0)
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.2g} to 1"


def interval(verdict: Verdict) -> str:
    """Where the difference lies; shares in percent."""
    if verdict.interval is None:
        return "no data"
    is_share = "rate" in verdict.unit or "share" in verdict.unit
    # A share of which nothing is seen at three decimal places is none.
    low, high = (round(100 * value, 3) if is_share else value for value in verdict.interval)
    sign = "" if verdict.unit == "share" else "+"
    return f"{low:{sign}.3g} to {high:{sign}.3g}{' %' if is_share else ''}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Law: duration(90) == "1 min 30 s"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _joined(meaning: str, reason: str) -> str:
    return f"{meaning} {reason}".strip()
