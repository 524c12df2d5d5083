"""Verdicts for people: a line each, worst first, then what is behind those that did not pass.

Those of which nothing was measured, all for one reason, share a line.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ci_tools.console import on_terminal
from ci_tools.gates import floor
from ci_tools.gates.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from ci_tools.gates.files import Verdicts

_LONGEST = 100
"""Characters of one value of the evidence."""
_DIGITS = 3
"""Significant ones, where nothing asks for more."""
_ALL_DIGITS = 17
"""Tell any two floats apart."""
_HUGE = 1e9
"""From here on a number is written with an exponent: nobody counts the digits."""
_ORIGINS = {"gates.yaml": "set in gates.yaml"}
"""For where a limit comes from, where its basis alone would not do."""
_BEYOND = {"≤": ">", "≥": "<"}
_COLORS = {Outcome.PASSED: "green", Outcome.INCONCLUSIVE: "yellow", Outcome.ERROR: "red", Outcome.FAILED: "red"}


def name_of(verdict: Verdict) -> str:
    """The gate, and what exactly it judged."""
    return f"{verdict.gate} ({verdict.subject})" if verdict.subject else verdict.gate


def comparison(verdict: Verdict) -> str:
    """Statistic and threshold, `12.4 > 8 robust z` say; empty where nothing was measured.

    Of `quality_floor` value and floor, `0.791 ≥ 0.75`.
    """
    if verdict.statistic is None or verdict.threshold is None:
        return ""
    value, limit, ends = verdict.statistic, verdict.threshold, verdict.interval or (math.nan, math.nan)
    sign, unit = "≤", verdict.unit
    if found := floor.of(verdict.gate, verdict.evidence):
        value, limit, ends = found.value(value), found.value(limit), found.interval(*ends)
        sign, unit = found.sign, ""
    left, sign, right = compared(value, limit, within=sign)
    interval = "" if math.isnan(ends[0]) else f" [{number(ends[0])}, {number(ends[1])}]"
    return f"{left}{interval} {sign} {right} {unit}".rstrip()


def headline(verdict: Verdict) -> str:
    """One line without the diagnosis: outcome, gate, numbers, and whether it matters."""
    numbers = comparison(verdict)
    line = f"{name_of(verdict)} {verdict.outcome}" + (f": {numbers}, limit by {verdict.basis}" if numbers else "")
    return line + _reservation(verdict)


def details(verdict: Verdict) -> str:
    """The verdict with its evidence, as lines."""
    lines = [headline(verdict), f"  {verdict.diagnosis}"]
    if verdict.remedy:
        lines.append(f"  Fix: {verdict.remedy}")
    if verdict.evidence:
        width = max(map(len, map(str, verdict.evidence)))
        lines += ["  Evidence:", *(f"    {key!s:<{width}}  {_brief(value)}" for key, value in verdict.evidence.items())]
    return "\n".join(lines)


def show(verdicts: "Verdicts") -> None:
    """Print to stdout: a table on a terminal, plain lines elsewhere."""
    if on_terminal() and sys.stdout.isatty():
        _show_rich(verdicts)
    else:
        sys.stdout.write("\n".join(plain_lines(verdicts)) + "\n")


def plain_lines(verdicts: "Verdicts") -> list[str]:
    """All verdicts as lines of text, worst first."""
    groups = grouped(verdicts.verdicts)
    rows = [(str(group[0].outcome), _names(group), comparison(group[0])) for group in groups]
    outcomes = max((len(outcome) for outcome, _, _ in rows), default=0)
    names = max((len(name) for _, name, numbers in rows if numbers), default=0)  # others have the line to themselves
    lines = []
    for (verdict, *_), (outcome, name, numbers) in zip(groups, rows, strict=True):
        lines.append(f"{outcome:<{outcomes}}  {name:<{names}}  {numbers}".rstrip())
        lines += [f"{'':<{outcomes}}  {line}" for line in _reasons(verdict)]
    return [*lines, "", *_ending(verdicts)]


def grouped(verdicts: Iterable[Verdict]) -> Sequence[Sequence[Verdict]]:
    """Worst first; together those of which nothing was measured, for the same reason and with the same consequence."""
    groups: dict[object, list[Verdict]] = {}
    for place, one in enumerate(worst_first(verdicts)):
        silent = one.statistic is None and one.outcome is not Outcome.PASSED
        key = (one.outcome, one.blocks, one.diagnosis, one.remedy) if silent else place
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def worst_first(verdicts: Iterable[Verdict]) -> Sequence[Verdict]:
    """By outcome, those that block before the others; the order within stays."""
    return sorted(verdicts, key=lambda verdict: (-verdict.outcome.rank, not verdict.blocks))


def number(value: float, digits: int = _DIGITS) -> str:
    """Significant digits, and all of those before the point; a zero has no sign."""
    if 10**digits - 0.5 <= abs(value) < _HUGE:
        return f"{value:.0f}"
    return f"{value or 0.0:.{digits}g}"


def compared(statistic: float, threshold: float, within: str = "≤") -> tuple[str, str, str]:
    """Statistic, sign and threshold: as many digits as it takes to tell the two apart, three at least.

    Law: the two read alike only where they are equal.

    Args:
        statistic: what was found.
        threshold: its limit.
        within: sign of what passes, ≤ of a limit and ≥ of a floor.
    """
    passes = statistic <= threshold if within == "≤" else statistic >= threshold
    sign = within if passes else _BEYOND[within]
    digits = _DIGITS
    while statistic != threshold and digits < _ALL_DIGITS and number(statistic, digits) == number(threshold, digits):
        digits += 1
    return number(statistic, digits), sign, number(threshold, digits)


def _names(group: Sequence[Verdict]) -> str:
    """Of all verdicts of a group, how many where they are several, and whether they matter."""
    count = f" ({len(group)} verdicts)" if len(group) > 1 else ""
    return ", ".join(map(name_of, group)) + count + _reservation(group[0])


def _reasons(verdict: Verdict) -> Iterator[str]:
    """What a person needs to act on a verdict that is no pass."""
    if verdict.outcome is Outcome.PASSED:
        return
    yield verdict.diagnosis
    if verdict.remedy:
        yield f"Fix: {verdict.remedy}"


def _reservation(verdict: Verdict) -> str:
    """Of a bad verdict that the policy lets pass."""
    return "; does not block" if verdict.outcome.rank >= Outcome.ERROR.rank and not verdict.blocks else ""


def _ending(verdicts: "Verdicts") -> list[str]:
    """What the gates were told differently, and the count."""
    outcomes = [verdict.outcome for verdict in verdicts.verdicts]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in Outcome if kind in outcomes)
    blocking = ", ".join(map(name_of, verdicts.blocking))
    lines = [f"differs from {verdicts.base}: {change}" for change in verdicts.policy_changes]
    bases = Counter(verdict.basis for verdict in verdicts.verdicts if verdict.statistic is not None)
    if bases:
        lines.append(f"limits: {', '.join(_origins(bases))}")
    lines.append(f"gates: {counts} in {verdicts.seconds:.1f} s")
    if blocking:
        lines.append(f"blocking: {blocking}")
    if verdicts.suspect:
        lines.append(f"look first at {verdicts.suspect}: it may have caused the others")
    return lines


def _origins(bases: Counter[str]) -> Iterator[str]:
    """How many limits come from where, the most frequent first; of those built in, which a calibration would replace.

    Args:
        bases: how often each `Verdict.basis` occurs.
    """
    replaceable = {why: bases[basis] for basis in bases if (why := basis.partition("default: ")[2])}
    built_in = bases["default"] + sum(replaceable.values())
    origins = Counter({basis: n for basis, n in bases.items() if not basis.startswith("default")})
    for basis, count in (origins + Counter(default=built_in)).most_common():
        if basis != "default":
            yield f"{count} {_ORIGINS.get(basis, basis)}"
        elif replaceable:
            unmeasured, whys = sum(replaceable.values()), "; ".join(replaceable)
            which = "" if unmeasured == built_in else f"{unmeasured} of them "
            yield f"{count} built in ({which}not measured on this model: {whys}; `switchback calibrate` measures)"
        else:
            yield f"{count} built in"


def _show_rich(verdicts: "Verdicts") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table = Console(), Table("outcome", "gate", "statistic and limit", box=None, pad_edge=False)
    groups = grouped(verdicts.verdicts)
    for group in groups:
        verdict = group[0]
        outcome = Text(str(verdict.outcome), style=_COLORS[verdict.outcome])
        # All names of a group would squeeze the other columns; they stand below, with the reason.
        name = _names(group) if len(group) == 1 else f"{len(group)} verdicts, see below" + _reservation(verdict)
        table.add_row(outcome, Text(name), Text(comparison(verdict)))
    console.print(table)
    for group in groups:
        verdict = group[0]
        if reasons := list(_reasons(verdict)):
            console.print(Text(f"\n{', '.join(map(name_of, group))}", style=f"bold {_COLORS[verdict.outcome]}"))
            for reason in reasons:
                console.print(Text(f"  {reason}"))
    for line in ("", *_ending(verdicts)):
        console.print(line, markup=False, highlight=False)


def _brief(value: Any) -> str:
    """One value of the evidence on one line."""
    text = value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(number(value)) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
