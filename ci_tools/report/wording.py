"""Verdicts and changes in words: composed from our own catalogue and from numbers, with names as code."""

import math

from ci_tools.gates import floor
from ci_tools.gates.policy import PER_METRIC
from ci_tools.gates.reasons import Reason
from ci_tools.gates.show import compared
from ci_tools.gates.verdict import Outcome
from ci_tools.report import catalogue, numerals
from ci_tools.report.markdown import code
from ci_tools.report.results import Judged, Metric

_STEPS = ("onset", "first nonfinite step", "first step", "from step", "worst shadow step", "step")
"""Evidence that says when trouble began, the first of these that is there."""
_WHERE = ("layer", "column")
_UNDECIDED = "raise against_main.max_seeds in gates.yaml, enlarge the test split, or accept a wider margin"
_BASES = {
    "default": "the gate's default",
    "uncalibrated": "the gate's default, not measured on this model",
    "gates.yaml": "set in gates.yaml",
    "calibrated": "calibrated on clean runs",
    "none": "unknown",
}


def title(one: Judged) -> str:
    """The gate, and what exactly it judged."""
    return code(one.gate) + (f" ({code(one.subject)})" if one.subject else "")


def meaning(one: Judged) -> str:
    """What the gate looks at; of one that is not ours, that it is not."""
    entry = catalogue.entries().get(one.gate)
    return entry.meaning if entry else "A gate of this repository; its own words are in the run's summary."


def measured(one: Judged) -> str:
    """Statistic and limit with unit; empty where nothing was measured."""
    if one.statistic is None or one.threshold is None:
        return ""
    value, limit, sign = one.statistic, one.threshold, "≤"
    low, high = (-math.inf, math.inf) if one.interval is None else one.interval
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    entry = catalogue.entries().get(one.gate)
    unit = f" {entry.unit}" if entry else ""
    if found := floor.of(one.gate, {fact.name: fact.value for fact in one.facts}):
        value, limit, ends = found.value(value), found.value(limit), found.interval(*ends)
        sign, unit = found.sign, ""
    between = f" (interval {numerals.between(ends)})" if one.interval and ends[0] != ends[1] else ""
    left, sign, right = compared(value, limit, within=sign)
    return f"{numerals.signed(left)}{between} {sign} {numerals.signed(right)}{unit}"


def place(one: Judged) -> str:
    """The step and the layer or column where it showed, `At step 210, in x.` say; empty where neither is known."""
    known = {fact.name: fact.value for fact in one.facts}
    step = next((value for key in _STEPS if isinstance(value := known.get(key), float)), None)
    name = next((value for key in _WHERE if isinstance(value := known.get(key), str) and value), "")
    parts = [f"at step {step:,.0f}"] if step is not None and 0 <= step < 1e12 else []
    parts += [f"in {code(name)}"] if name else []
    said = ", ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def basis(one: Judged) -> str:
    """Where the limit comes from."""
    return _BASES["gates.yaml" if one.gate in PER_METRIC else one.basis]


def why(one: Judged) -> str:
    """One sentence on an outcome that is no pass."""
    if one.outcome is Outcome.ERROR:
        return "The gate could not run; the run's summary says why."
    if one.outcome is Outcome.FAILED:
        return meaning(one)
    if one.statistic is None:
        return cause(one.reason) if one.reason else "There was nothing to measure; the run's summary says why."
    if one.reason:
        return f"The evidence does not decide, for not all of it could be measured: {one.reason.sentence}."
    return "The interval holds the limit: the evidence does not decide."


def cause(reason: Reason) -> str:
    """Why something could not be measured, as a whole sentence."""
    return f"{reason.sentence[0].upper()}{reason.sentence[1:]}."


def remedy(one: Judged) -> str:
    """What to try; empty where nothing was measured."""
    entry = catalogue.entries().get(one.gate)
    if entry is None or one.statistic is None:
        return ""
    undecided = one.outcome is Outcome.INCONCLUSIVE and one.gate in ("quality_against_main", "slices_against_main")
    return _UNDECIDED if undecided else entry.remedy


def change(one: Metric) -> tuple[str, str]:
    """`0.7912 → 0.7934` and `+0.0022 (95 %: −0.0010 to +0.0054)`; — where there is no comparison."""
    if one.change is None or one.interval is None:
        return numerals.fixed(one.here, numerals.places([one.here])), "—"
    low, high = one.interval
    width = 0.0 if low is None or high is None else high - low
    decimals = numerals.places([one.here, one.main], width)
    share = f"{100 * one.confidence:.3g} %: " if one.confidence else ""
    return (
        f"{numerals.fixed(one.main, decimals)} → {numerals.fixed(one.here, decimals)}",
        f"{numerals.fixed(one.change, decimals, True)} ({share}{numerals.span(one.interval, decimals)})",
    )


def reading(one: Metric) -> str:
    """What a change means: noise or not, and whether it matters."""
    if one.interval is None or one.change is None:
        return "not compared"
    if one.interval == (0, 0):
        return "identical"
    low, high = one.interval
    noise = (low is None or low <= 0) and (high is None or high >= 0)
    better = not noise and (one.change > 0) == one.higher_is_better
    beyond = one.outcome is Outcome.FAILED
    undecided = one.outcome is Outcome.INCONCLUSIVE
    if beyond:
        return "worse, beyond the margin"
    if undecided:
        return f"{'noise' if noise else 'worse'}; a loss beyond the margin is not ruled out"
    return "noise" if noise else "better" if better else "worse, within the margin"
