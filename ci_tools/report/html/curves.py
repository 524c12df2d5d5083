"""Curves over the steps of training, one line per seed.

E = evaluations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ci_tools.gates.series import window
from ci_tools.report.html.records import Seed, floats, ints
from ci_tools.report.html.thin import Buckets, buckets, envelope, rounded, smooth
from ci_tools.report.numerals import plural

POINTS = 500
"""Most points of a curve: about a pixel each at the width of the page."""
_TOGETHER = 5_000
"""Most points of all seeds' curves in one chart, down to 100 each."""
_METRICS = 12
"""Most metrics with a chart of their own."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One seed's curve, [B]."""

    seed: int
    """Position among the seeds."""
    mean: list[float | None]
    low: list[float | None] | None = None
    """Lowest value of each bucket; None where nothing was left out."""
    high: list[float | None] | None = None
    nonfinite: list[int] | None = None
    """Buckets with a NaN or an infinity."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the page draws, and says below it."""

    id: str
    title: str
    unit: str
    x: list[int]
    """Step of each point."""
    lines: tuple[Line, ...]
    log: bool
    """Whether it is drawn on a logarithmic scale at first; every chart of positive values can be."""
    positive: bool
    caption: str
    points: bool = False
    """Whether the points are few and each is marked."""

    def summary(self, seeds: Sequence[Seed]) -> str:
        """The curve in words, for those who cannot see it."""
        told = []
        for line in self.lines:
            known = [value for value in line.mean if value is not None]
            if known:
                told.append(f"{seeds[line.seed].name} from {known[0]:.4g} to {known[-1]:.4g}")
        return f"{self.title} over {self.x[-1] + 1:,} steps: {'; '.join(told) or 'no finite value'}"

    def to_json(self) -> dict[str, Any]:
        """What the script needs; the rest stands in the page."""
        kept = ("id", "title", "unit", "x", "log", "positive", "points")
        return {name: getattr(self, name) for name in kept} | {"lines": [vars(line) for line in self.lines]}


def of_steps(seeds: Sequence[Seed]) -> tuple[Chart, ...]:
    """Loss, gradient norm, learning rate and time of every step; nothing where no seed recorded one."""
    most = max((seed.steps for seed in seeds), default=0)
    into = buckets(most, max(min(POINTS, _TOGETHER // max(len(seeds), 1)), 100))
    if not into.count:
        return ()
    return (
        _chart(seeds, into, "loss", "Training loss", "in the loss's unit"),
        _chart(seeds, into, "grad_norm", "Gradient norm before clipping", "L2 norm over all layers"),
        _chart(seeds, into, "lr", "Learning rate", "per step", smoothed=False),
        _chart(seeds, into, "step_ms", "Step time", "ms"),
    )


def of_metrics(seeds: Sequence[Seed]) -> tuple[Chart, ...]:
    """One chart per split and metric that was evaluated during training."""
    names: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for at, seed in enumerate(seeds):
        for row in seed.evals.to_pylist():
            measured = names.setdefault((row["split"], row["metric"]), {})
            measured.setdefault(at, {})[row["step"]] = row["value"]
    return tuple(
        _measured(f"metric-{i}", f"{metric.replace('_', ' ')} on {split}", found)
        for i, ((split, metric), found) in enumerate(list(names.items())[:_METRICS])
    )


def _chart(seeds: Sequence[Seed], into: Buckets, column: str, title: str, unit: str, *, smoothed: bool = True) -> Chart:
    lines, widths, positive, bad = [], [], True, []
    for at, seed in enumerate(seeds):
        if not seed.trace.num_rows:
            continue
        step_S, value_S = ints(seed.trace, "step"), floats(seed.trace, column)
        raw = envelope(step_S, value_S, into)
        width = window(len(step_S)) if smoothed else 1
        line = envelope(step_S, smooth(value_S, width), into)
        marks = np.flatnonzero(raw.nonfinite_B).tolist()
        shade = smoothed or into.width > 1
        lines.append(
            Line(
                seed=at,
                mean=rounded(line.mean_B),
                low=rounded(raw.low_B) if shade else None,
                high=rounded(raw.high_B) if shade else None,
                nonfinite=marks or None,
            )
        )
        widths.append(width)
        positive = positive and not bool(np.any(raw.low_B <= 0))
        if marks:
            bad.append(f"{seed.name} is not finite at {plural(int(np.sum(~np.isfinite(value_S))), 'step')}")
    shown = "each step" if into.width == 1 else f"lowest and highest of every {into.width} steps"
    caption = f"Line: mean over {max(widths)} steps. Shade: {shown}." if smoothed else f"Shown: {shown}."
    return Chart(
        id=column.replace("_", "-"),
        title=title,
        unit=unit,
        x=into.first_b.tolist(),
        lines=tuple(lines),
        log=positive and column in ("loss", "grad_norm"),
        positive=positive,
        caption=" ".join([caption, *(f"Crosses: {one}." for one in bad)]),
    )


def _measured(name: str, title: str, found: dict[int, dict[int, float]]) -> Chart:
    steps_E = np.array(sorted({step for by_step in found.values() for step in by_step}), dtype=np.int64)
    into = buckets(int(steps_E[-1]) + 1, POINTS)
    thinned = len(steps_E) > POINTS
    lines, every = [], []
    for at, by_step in found.items():
        value_E = np.array([by_step.get(int(step), np.nan) for step in steps_E])
        if thinned:
            curve = envelope(steps_E, value_E, into)
            lines.append(
                Line(seed=at, mean=rounded(curve.mean_B), low=rounded(curve.low_B), high=rounded(curve.high_B))
            )
        else:
            lines.append(Line(seed=at, mean=rounded(value_E)))
        every.append(value_E[np.isfinite(value_E)])
    values = np.concatenate(every)
    caption = f"{len(steps_E)} evaluations."
    if thinned:
        caption += f" Line: mean of every {into.width} steps. Shade: lowest and highest of them."
    elif len(found) > 1:
        caption += " Shade: from the lowest to the highest seed."
    return Chart(
        id=name,
        title=title,
        unit="",
        x=(into.first_b if thinned else steps_E).tolist(),
        lines=tuple(lines),
        log=False,
        positive=bool(len(values)) and bool(np.all(values > 0)),
        caption=caption,
        points=len(steps_E) <= 60,
    )
