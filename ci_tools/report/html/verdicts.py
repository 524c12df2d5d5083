"""Verdicts as the page shows them: numbers as text, an interval as a small picture, evidence as nested tables."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ci_tools.gates.files import Verdicts
from ci_tools.gates.show import number as plain_number
from ci_tools.gates.show import worst_first
from ci_tools.gates.verdict import Outcome, Verdict

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
"""Of numbers, and in place of one that was not measured."""
_ITEMS = 12
"""Most items of a list in the evidence."""
_PAIRS = 40
_DEPTH = 3
_TEXT = 400
"""Characters of one value of the evidence."""
_REACH = 3.0
"""How far beyond its limit an interval is drawn, in distances of the statistic or of zero from the limit."""


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """A statistic with its interval beside its limit, in percent of the picture's width."""

    low: float
    high: float
    value: float
    limit: float
    zero: float
    cut: bool
    """Whether the interval goes on beyond the right edge."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value of the evidence."""

    kind: Literal["text", "number", "list", "pairs", "table"]
    text: str = ""
    items: Sequence["Node"] = ()
    keys: Sequence[str] = ()
    """Of `pairs`, and the columns of a `table`, whose items are lists."""
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One verdict."""

    verdict: Verdict
    measured: str
    interval: str
    limit: str
    whisker: Whisker | None
    evidence: Node | None
    pending: bool = False

    @property
    def note(self) -> str:
        """What a bad outcome means for the merge where the badge alone would mislead."""
        outcome, blocks = self.verdict.outcome, self.verdict.blocks
        if outcome is Outcome.INCONCLUSIVE and blocks:
            return "blocks"
        return "does not block" if outcome in (Outcome.FAILED, Outcome.ERROR) and not blocks else ""


@dataclass(frozen=True, kw_only=True)
class Silent:
    """Gates that could measure nothing, all for one reason."""

    outcome: Outcome
    reason: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Banner:
    """The answer to: can this be merged?"""

    tone: Outcome
    title: str
    detail: str


def rows(verdicts: Verdicts) -> tuple[Row, ...]:
    """Worst first, and of the failures the likely cause; tests that have not ended among the errors."""
    waiting = set(map(id, verdicts.pending))
    causes_first = sorted((*verdicts.verdicts, *verdicts.pending), key=lambda one: one.gate != verdicts.cause)
    every = worst_first(causes_first)
    return tuple(_row(verdict, id(verdict) in waiting) for verdict in every)


def grouped(found: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Silent, ...]]:
    """The rows that deserve one each, and those that only repeat why nothing could be measured."""
    reasons: dict[tuple[Outcome, str], list[Row]] = {}
    for row in found:
        one = row.verdict
        if one.statistic is None and not (one.blocks or one.remedy or row.pending):
            reasons.setdefault((one.outcome, one.diagnosis), []).append(row)
    silent = [
        Silent(outcome=outcome, reason=reason, rows=tuple(same))
        for (outcome, reason), same in reasons.items()
        if len(same) > 1
    ]
    hidden = {id(row) for group in silent for row in group.rows}
    return tuple(row for row in found if id(row) not in hidden), tuple(silent)


def banner(verdicts: Verdicts) -> Banner:
    """What the exit code says, in words."""
    blocking = verdicts.blocking
    code, first = verdicts.exit_code, blocking[0].outcome if blocking else None
    if verdicts.refused:
        return Banner(tone=Outcome.ERROR, title="Not judged", detail="The policy or the tests break a rule; see below.")
    if not (verdicts.verdicts or verdicts.pending):
        return Banner(tone=Outcome.ERROR, title="Not judged", detail="There is no verdict at all.")
    if code == 0:
        bad = [one for one in verdicts.verdicts if one.outcome in (Outcome.FAILED, Outcome.ERROR)]
        passed = sum(one.outcome is Outcome.PASSED for one in verdicts.verdicts)
        detail = f"{passed} of {_count(len(verdicts.verdicts), 'verdict')} passed and none stops the merge"
        if bad:
            detail += f"; gates.yaml lets {_count(len(bad), 'failure')} pass"
        return Banner(tone=Outcome.PASSED, title="Can be merged", detail=f"{detail}.")
    names = ", ".join(dict.fromkeys(sorted((one.gate for one in blocking), key=lambda gate: gate != verdicts.cause)))
    title = "Undecided" if first is Outcome.INCONCLUSIVE else "Do not merge"
    detail = f"{_count(len(blocking), 'verdict')} {'stops' if len(blocking) == 1 else 'stop'} the merge: {names}."
    return Banner(tone=first or Outcome.FAILED, title=title, detail=detail)


def number(value: float | None) -> str:
    """Four significant digits and a true minus sign; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return plain_number(value).replace("-", MINUS)


def steady(value: float | None) -> str:
    """The same with trailing zeros, so that a column of one metric's values lines up."""
    return number(value) if value is None or not math.isfinite(value) else f"{value:#.4g}".replace("-", MINUS)


def whisker(low: float, high: float, value: float, limit: float) -> Whisker:
    """Places on a scale that shows zero, the limit and the statistic; an interval far beyond them is cut."""
    start = min(0.0, low if math.isfinite(low) else value, value, limit)
    known = max(value, limit)
    reach = _REACH * max(abs(value - limit), abs(limit), abs(limit - start)) or 1.0
    end = min(max(high, known), known + reach)
    margin = (end - start or 1.0) * 0.06
    start, width = start - margin, (end - start or 1.0) + 2 * margin

    def place(at: float) -> float:
        return round(100 * min(max((at - start) / width, 0.0), 1.0), 2)

    return Whisker(
        low=place(low), high=place(high), value=place(value), limit=place(limit), zero=place(0.0), cut=high > end
    )


def node(value: Any, depth: int = 0) -> Node:
    """A value of any plain type; long lists, long texts and deep trees are cut, and say so."""
    if isinstance(value, Mapping) and value and depth < _DEPTH:
        kept = list(value.items())[:_PAIRS]
        items = [node(item, depth + 1) for _, item in kept]
        return Node(kind="pairs", keys=[str(key) for key, _ in kept], items=items, left_out=max(len(value) - _PAIRS, 0))
    if isinstance(value, list | tuple) and value and depth < _DEPTH:
        kept_items, left_out = value[:_ITEMS], max(len(value) - _ITEMS, 0)
        if all(isinstance(item, Mapping) for item in kept_items):
            return _table(kept_items, left_out)
        return Node(kind="list", items=[node(item, depth + 1) for item in kept_items], left_out=left_out)
    if isinstance(value, bool) or value is None:
        return Node(kind="text", text={True: "yes", False: "no", None: DASH}[value])
    if isinstance(value, int):
        return Node(kind="number", text=f"{value:,}".replace("-", MINUS))
    if isinstance(value, float):
        return Node(kind="number", text=number(value))
    text = str(value)
    if isinstance(value, Mapping | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=str) if value else "none"
    return Node(kind="text", text=text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…")


def _row(verdict: Verdict, pending: bool) -> Row:
    value, limit = verdict.statistic, verdict.threshold
    low, high = verdict.interval or (math.nan, math.nan)
    drawn = None
    if value is not None and limit is not None:
        drawn = whisker(*((value, value) if math.isnan(low) else (low, high)), value, limit)
    return Row(
        verdict=verdict,
        measured=number(value),
        interval="" if math.isnan(low) else f"{number(low)} to {number(high)}",
        limit=number(limit),
        whisker=drawn,
        evidence=node(verdict.evidence) if verdict.evidence else None,
        pending=pending,
    )


def _table(items: Sequence[Mapping[str, Any]], left_out: int) -> Node:
    keys = list(dict.fromkeys(str(key) for item in items for key in item))[:_ITEMS]
    lines = [Node(kind="list", items=[node(item.get(key), _DEPTH) for key in keys]) for item in items]
    return Node(kind="table", keys=keys, items=lines, left_out=left_out)


def counts(verdicts: Iterable[Row]) -> list[tuple[Outcome, int]]:
    """How many of each outcome there are, worst first, without those that do not occur."""
    outcomes = [row.verdict.outcome for row in verdicts]
    return [(kind, outcomes.count(kind)) for kind in reversed(Outcome) if kind in outcomes]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
