"""The calibration curve as a picture that needs no script: places on a square of 100 units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ci_tools.report.html.evaluation import Bin

_RARE = 30.0
"""Ratio of the largest to the smallest prediction from which a linear scale would crowd most bins into a corner."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A bin's place; y grows downwards. `low` and `high` are the ends of its interval."""

    x: float
    y: float
    low: float
    high: float
    outside: bool
    """Whether nothing was observed, which a logarithmic scale can only show at its edge."""
    title: str


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Both axes have the same scale and the same ticks."""

    log: bool
    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    """Place along an axis, and what stands there."""
    known: bool
    """Whether the bins' rows, and with them intervals, are known."""


def diagram(bins: Sequence[Bin]) -> Diagram | None:
    """The picture; None without bins. Logarithmic where scores range over decades, as they do for rare positives."""
    if not bins:
        return None
    predicted = [one.predicted for one in bins]
    log = min(predicted) > 0 and max(predicted) / min(predicted) > _RARE
    observed = [one.observed for one in bins]
    if log:
        low = math.floor(math.log10(min(predicted + [value for value in observed if value > 0])))
        ticks = [(10.0**power, f"{10.0**power:g}") for power in range(low, 1)]
        start, end = float(low), 0.0
    else:
        top = max(0.1, math.ceil(10 * max(predicted + observed)) / 10)
        ticks = [(top * i / 5, f"{top * i / 5:.3g}") for i in range(6)]
        start, end = 0.0, top

    def place(value: float) -> float:
        if log:
            value = math.log10(value) if value > 0 else start
        return round(100 * min(max((value - start) / (end - start), 0.0), 1.0), 2)

    return Diagram(
        log=log,
        points=tuple(
            Point(
                x=place(one.predicted),
                y=round(100 - place(one.observed), 2),
                low=round(100 - place(one.low), 2),
                high=round(100 - place(one.high), 2),
                outside=log and one.observed <= 0,
                title=f"{one.rows:,} scores near {one.predicted:.3g} came true in {one.observed:.3g}",
            )
            for one in bins
        ),
        ticks=tuple((place(value), label) for value, label in ticks),
        known=any(one.rows for one in bins),
    )
