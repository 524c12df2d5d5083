"""Curves as Mermaid charts, which GitHub draws in the reader's own colours, and as tables for everyone else.

No name enters a chart: Mermaid's language has directives, links and click handlers of its own.
"""

import math
from collections.abc import Sequence
from itertools import takewhile

from ci_tools.report import markdown, numerals
from ci_tools.report.results import Curve

_ROWS = 6
"""Of a table."""
_STEEP = 5.0
"""Ratio of the largest to the smallest value from which on a loss is drawn on a logarithmic axis."""
_LARGEST = 1e12
_MEAN, _RANGE = "#3b82f6", "#9ca3af"
"""Both stand out from a white and from a black background."""


def chart(curve: Curve) -> str:
    """A Mermaid block: the mean over seeds, between the lowest and the highest of them.

    It ends before the first point where a seed that got so far has no finite value. Empty for under two points, and for
    numbers that Mermaid, which reads no exponents, cannot hold.
    """
    rows = zip(curve.low, curve.mean, curve.high, strict=True)
    known = list(takewhile(lambda row: None not in row, rows))
    lines = [[value for value in column if value is not None] for column in zip(*known, strict=True)]
    if len(known) < 2:
        return ""
    what = "loss" if curve.of == "loss" else "value"
    if curve.of == "loss" and 0 < _lowest(lines) * _STEEP < _highest(lines):
        lines, what = [[math.log10(value) for value in line] for line in lines], "log10 of the loss"
    low, high = _lowest(lines), _highest(lines)
    if max(abs(low), abs(high)) > _LARGEST:
        return ""
    margin = (high - low) * 0.05 or abs(low) * 0.05 or 1.0
    decimals = min(max(2 - math.floor(math.log10(margin)), 0), 18)
    drawn = [lines[1]] if curve.seeds < 2 else [lines[0], lines[2], lines[1]]
    colours = [_MEAN] if curve.seeds < 2 else [_RANGE, _RANGE, _MEAN]
    settings = '{"themeVariables": {"xyChart": {"plotColorPalette": "' + ", ".join(colours) + '"}}}'
    body = [
        f"%%{{init: {settings}}}%%",
        "xychart-beta",
        f'    x-axis "step" {curve.step[0]} --> {curve.step[len(known) - 1]}',
        f'    y-axis "{what}" {low - margin:.{decimals}f} --> {high + margin:.{decimals}f}',
        *(f"    line [{', '.join(f'{value:.{decimals}f}' for value in line)}]" for line in drawn),
    ]
    return "\n".join(["```mermaid", *body, "```"])


def points(curve: Curve) -> str:
    """A table of a few points, the first and the last among them."""
    count = len(curve.step)
    chosen = sorted({round(i * (count - 1) / max(min(count, _ROWS) - 1, 1)) for i in range(min(count, _ROWS))})
    rows = [(f"{curve.step[i]:,}", *_values(curve, i)) for i in chosen]
    head = ("step", "mean", f"lowest to highest of {numerals.plural(curve.seeds, 'seed')}")
    return markdown.table(head, rows, right=(0, 1, 2))


def change(curve: Curve) -> str:
    """From the first to the last known value, `0.7508 → 0.0284` say, and what these two hide."""
    known = [value for value in curve.mean if value is not None]
    if not known:
        return "not finite"
    ends = f"{numerals.short(known[0])} → {numerals.short(known[-1])}"
    if curve.mean[-1] is None:
        return f"{ends}, then not finite"
    return ends if None not in curve.mean else f"{ends}, in between not finite"


def early(curve: Curve) -> str:
    """Which seeds end before the curve does, `seed 3 until step 260` say; empty where none does."""
    told = [f"seed {one.seed} until step {one.step:,}" for one in curve.early[:_ROWS]]
    return ", ".join([*told, "…"] if len(curve.early) > _ROWS else told)


def _values(curve: Curve, point: int) -> tuple[str, str]:
    if curve.mean[point] is None:
        return "not finite", ""
    ends = numerals.short(curve.low[point]), numerals.short(curve.high[point])
    return numerals.short(curve.mean[point]), " to ".join(ends)


def _lowest(lines: Sequence[Sequence[float]]) -> float:
    return min(map(min, lines))


def _highest(lines: Sequence[Sequence[float]]) -> float:
    return max(map(max, lines))
