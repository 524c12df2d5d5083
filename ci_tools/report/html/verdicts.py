"""Verdicts as the page shows them: numbers as text, an interval as a small picture, evidence as nested tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ci_tools.gates import floor
from ci_tools.gates.files import Verdicts
from ci_tools.gates.show import compared, worst_first
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.report import answer
from ci_tools.report.html.values import in_a_line
from ci_tools.report.numerals import MISSING, plural, short, signed

RESERVED = "reserved"
"""Tone of a merge that nothing stops and that somebody should think about all the same."""
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
    sign: str
    """Between a statistic and its limit where it passes."""
    unit: str
    whisker: Whisker | None
    """Of the verdict's own statistic, which is larger where it is worse."""
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

    tone: str
    """An outcome, or `RESERVED`."""
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


def banner(verdicts: Verdicts, statuses: Sequence[str]) -> Banner:
    """The answer that the comment gives, with what it rests on.

    Args:
        verdicts: all of them.
        statuses: of the run records; one that is missing or damaged is `unreadable`.
    """
    every = (*verdicts.verdicts, *verdicts.pending)
    found = answer.of(
        every, verdicts.exit_code, base=verdicts.base, selected=bool(verdicts.selection), statuses=statuses
    )
    if found.outcome is Outcome.PASSED:
        passed = sum(one.outcome is Outcome.PASSED for one in every)
        detail = f"{passed} of {plural(len(every), 'verdict')} passed" + (f"; {found.reason}" if found.reason else "")
        return Banner(tone=str(found.outcome) if found.sure else RESERVED, title=found.title, detail=f"{detail}.")
    gates = sorted((one.gate for one in verdicts.blocking), key=lambda gate: gate != verdicts.cause)
    why = ", ".join(dict.fromkeys(gates))
    if verdicts.refused:
        why = "the policy or the tests break a rule, see below"
    elif not every:
        why = "there is no verdict at all"
    return Banner(tone=str(found.outcome), title=found.title, detail=f"{found.reason.capitalize()}: {why}.")


def number(value: float | None) -> str:
    """Three significant digits and a true minus sign; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return MISSING
    return signed(f"{value:g}".replace("inf", "∞")) if math.isinf(value) else short(value)


def steady(value: float | None) -> str:
    """The same with four digits and trailing zeros, so that a column of one metric's values lines up."""
    return number(value) if value is None or not math.isfinite(value) else signed(f"{value or 0.0:#.4g}")


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
        return Node(kind="text", text={True: "yes", False: "no", None: MISSING}[value])
    if isinstance(value, int):
        return Node(kind="number", text=_cut(signed(f"{value:,}")))
    if isinstance(value, float):
        return Node(kind="number", text=number(value))
    if isinstance(value, Mapping | list | tuple):
        return Node(kind="text", text=_cut(in_a_line(value)) if value else "none")
    return Node(kind="text", text=_cut(str(value)))


def _row(verdict: Verdict, pending: bool) -> Row:
    value, limit = verdict.statistic, verdict.threshold
    low, high = verdict.interval or (math.nan, math.nan)
    drawn, sign, unit = None, "≤", verdict.unit
    if value is not None and limit is not None:
        drawn = whisker(*((value, value) if math.isnan(low) else (low, high)), value, limit)
        if found := floor.of(verdict.gate, verdict.evidence):
            value, limit, (low, high) = found.value(value), found.value(limit), found.interval(low, high)
            sign, unit = found.sign, ""
    measured, shown_limit = number(value), number(limit)
    if value is not None and limit is not None and math.isfinite(value) and math.isfinite(limit):
        left, _, right = compared(value, limit)
        measured, shown_limit = signed(left), signed(right)
    return Row(
        verdict=verdict,
        measured=measured,
        interval="" if math.isnan(low) else f"{number(low)} to {number(high)}",
        limit=shown_limit,
        sign=sign,
        unit=unit,
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


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
