"""What the status page shows, as plain values: computed from the status and the ledger, and from nothing else."""

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from ci_tools.release.api import words
from ci_tools.release.api.tail import Seen
from ci_tools.release.control import Event, Status
from ci_tools.release.judge import Outcome, Verdict

TONES = {Outcome.SAFE: "passed", Outcome.OPEN: "inconclusive", Outcome.NO_DATA: "calm", Outcome.HARMFUL: "failed"}
_LOWEST = -3.0
"""Least power of ten that a curve shows: evidence far below that says no more."""
_STARTED = "started"
_BODY = 400
"""Characters that the list shows of an event's sentence."""


class Row(NamedTuple):
    """One metric."""

    name: str
    what: str
    tone: str
    outcome: str
    role: str
    """Whether it stops a release, and whether promotion waits for it."""
    canary: str
    baseline: str
    difference: str
    unit: str
    harm: float
    """Part of the evidence that would roll back, from 0 to 1."""
    harm_odds: str
    safe: float
    """Part of the evidence that would count as safe, from 0 to 1."""
    safe_odds: str
    sentence: str


class Line(NamedTuple):
    """One event of the ledger."""

    seq: int
    at: str
    kind: str
    actor: str
    release: str
    body: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class View:
    """The page's values."""

    said: words.Said
    judge: str
    """What the judge says now; empty where nothing is judged, or `said` says it."""
    status: Status
    champion: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    events: tuple[Line, ...]
    """Newest first."""
    refusals: dict[str, str]
    charts: dict[str, Any]


def view(status: Status, seen: Seen) -> View:
    """What to show now."""
    verdicts = status.decision.verdicts if status.decision else ()
    said = words.said(status)
    return View(
        said=said,
        judge=_judge(status, said),
        status=status,
        champion=words.short(status.champion),
        facts=_facts(status),
        rows=tuple(_row(one) for one in verdicts),
        events=tuple(_line(one) for one in reversed(seen.events)),
        refusals=words.refusals(status),
        charts={"weights": _weights(status, seen), "metrics": [_curve(one, status) for one in verdicts]},
    )


def _judge(status: Status, said: words.Said) -> str:
    if status.decision is None or not words.under_way(status.release):
        return ""
    return "" if status.decision.sentence in said.sentence else status.decision.sentence


def _facts(status: Status) -> tuple[tuple[str, str], ...]:
    release, found = status.release, []
    if release:
        found += [("Canary" if words.under_way(release) else "Last release", words.short(release.bundle))]
        found += [("Compared with", words.short(release.champion))]
        in_force = "" if status.actual.leased or not release.canary_weight else " (not in force)"
        found += [("Canary's weight", words.percent(release.canary_weight) + in_force)]
        found += [("Began", release.started[:19].replace("T", " ") + " UTC")]
        found += [("Age" if words.under_way(release) else "Took", words.duration(release.seconds))]
    if status.previous:
        found += [("Champion before", words.short(status.previous))]
    return tuple(found)


def _row(verdict: Verdict) -> Row:
    canary, baseline = _counted(verdict)
    return Row(
        name=verdict.metric,
        what=words.METRICS.get(verdict.metric, ""),
        tone=TONES[verdict.outcome],
        outcome=verdict.outcome.value,
        role=_role(verdict),
        canary=canary,
        baseline=baseline,
        difference=words.interval(verdict),
        unit=verdict.unit,
        harm=_part(verdict.log10_harm, verdict.log10_harm_needed),
        harm_odds=f"{words.odds(verdict.log10_harm)}, {words.odds(verdict.log10_harm_needed)} needed",
        safe=_part(verdict.log10_safe, verdict.log10_safe_needed),
        safe_odds=f"{words.odds(verdict.log10_safe)}, {words.odds(verdict.log10_safe_needed)} needed",
        sentence=verdict.sentence,
    )


def _counted(verdict: Verdict) -> tuple[str, str]:
    """Of both arms; a metric of pairs or labels has one count only."""
    counts = verdict.counts
    if "canary_requests" in counts:
        canary, baseline = (f"{counts[arm]:,} of {counts[f'{arm}_requests']:,}" for arm in ("canary", "baseline"))
        return canary, baseline
    if "pairs" in counts:
        return f"{counts['flips']:,} of {counts['pairs']:,} pairs", ""
    if "canary_scores" in counts:
        return f"{counts['canary_scores']:,} scores", f"{counts['baseline_scores']:,} scores"
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()), ""


def _role(verdict: Verdict) -> str:
    if not verdict.blocks:
        return "only told"
    return "needed for promotion" if verdict.needed else "stops a release"


def _part(now: float, needed: float) -> float:
    return min(max(now / needed, 0.0), 1.0) if needed > 0 else 0.0


def _line(event: Event) -> Line:
    at = event.at[:19].replace("T", " ")
    return Line(event.seq, at, event.kind, event.actor, event.release, _told(event.kind, event.body), event.sha256)


def _told(kind: str, body: dict[str, Any]) -> str:
    """The event's own sentence, else whom it is about, else its values."""
    reason, bundle, champion = (str(body.get(key) or "") for key in ("reason", "bundle", "champion"))
    if reason:
        text = reason
    elif bundle:
        text = f"Bundle {words.short(bundle)}, to be compared with {words.short(champion)}."
    elif kind == _STARTED and "pid" in body:
        text = f"A controller began to work, as process {body['pid']}."
    else:
        text = json.dumps(body, ensure_ascii=False) if body else ""
    return text if len(text) <= _BODY else f"{text[: _BODY - 1]}…"


def _weights(status: Status, seen: Seen) -> list[list[float]]:
    """Seconds and percent; the last weight reaches to now."""
    release, points = status.release, list(seen.weights)
    if not release:
        return [[], []]
    if not points or points[-1][1] != release.canary_weight:
        points.append((release.seconds, release.canary_weight))
    points = [(0.0, 0.0), *points] if points[0][0] > 0 else points
    points.append((max(release.seconds, points[-1][0]), points[-1][1]))
    return [[round(seconds, 1) for seconds, _ in points], [round(100 * weight, 3) for _, weight in points]]


def _curve(verdict: Verdict, status: Status) -> dict[str, Any]:
    """Evidence over time, up to now. Evidence of harm is what it was at most so far: once enough, always enough."""
    points = list(verdict.trace)
    if status.decision and points and status.decision.seconds > points[-1][0]:
        points.append((status.decision.seconds, verdict.log10_harm, verdict.log10_safe))
    harm = accumulate((max(point[1], 0.0) for point in points), max)
    return {
        "name": verdict.metric,
        "outcome": verdict.outcome.value,
        "tone": TONES[verdict.outcome],
        "seconds": [round(point[0], 1) for point in points],
        "harm": [_shown(value) for value in harm],
        "safe": [_shown(point[2]) for point in points],
        "harm_needed": _shown(verdict.log10_harm_needed),
        "safe_needed": _shown(verdict.log10_safe_needed),
    }


def _shown(log10: float) -> float:
    return round(max(log10, _LOWEST), 3)
