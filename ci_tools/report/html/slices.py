"""The test split slice by slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.gates.files import Verdicts
from ci_tools.gates.policy import Policy
from ci_tools.gates.run import Run
from ci_tools.report import quality
from ci_tools.report.html.evaluation import METRICS
from ci_tools.report.html.values import is_number, mapping, numbers

SLICES = "evaluation/slices.json"
_SHOWN = 60
"""Most slices that are listed."""


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """One slice; places are in percent of the picture's width."""

    column: str
    value: str
    rows: int
    positives: int
    release: float | None
    others: tuple[float, ...]
    """Places of the other seeds."""
    place: float | None
    low: float | None
    high: float | None
    """Over the seeds, in the metric's unit."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """The release's metric that the comment shows by slice, too."""

    metric: str
    rows: tuple[SliceRow, ...]
    overall: float | None
    """Place of the whole test split."""
    domain: tuple[float, float]
    left_out: int


def slices(run: Run, settings: Policy) -> Slices | None:
    """What evaluation/slices.json says of one metric; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    path, metrics = run.root / SLICES, run.root / METRICS
    if not path.exists():
        return None
    found = [
        (str(column), str(value), mapping(entry, path))
        for column, values in run.slices.items()
        for value, entry in mapping(values, path).items()
    ]
    metric = quality.slice_metric(settings, [entry for _, _, entry in found])
    measured = [_seed_values(entry, metric, path) for _, _, entry in found]
    release = [numbers(entry.get("release") or {}, path).get(metric) for _, _, entry in found]
    every = [value for values in measured for value in values] + [value for value in release if value is not None]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    span = high - low or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * min(max((value - low) / span, 0.0), 1.0), 2)

    whole = numbers(run.metrics.get("release", {}), metrics).get(metric) if metrics.exists() else None
    rows = tuple(
        SliceRow(
            column=column,
            value=value,
            rows=_whole(entry.get("n")),
            positives=_whole(entry.get("positives")),
            release=at,
            others=tuple(place(one) for one in values),
            place=None if at is None else place(at),
            low=min(values, default=None),
            high=max(values, default=None),
        )
        for (column, value, entry), values, at in zip(found, measured, release, strict=True)
    )
    return Slices(
        metric=metric,
        rows=rows[:_SHOWN],
        overall=None if whole is None or not low <= whole <= high else place(whole),
        domain=(low, high),
        left_out=max(len(rows) - _SHOWN, 0),
    )


def worst_slices(verdicts: Verdicts) -> tuple[tuple[str, str, float, float, float], ...]:
    """Metric, slice, loss and its interval, of the slices that `slices_against_main` names."""
    found = []
    for verdict in verdicts.verdicts:
        named = verdict.evidence.get("worst slices") if verdict.gate == "slices_against_main" else None
        for name, values in (named if isinstance(named, Mapping) else {}).items():
            if isinstance(values, list | tuple) and len(values) == 3 and all(map(is_number, values)):
                low, high = sorted(map(float, values[1:]))
                found.append((verdict.subject.split(",")[0], str(name), float(values[0]), low, high))
    return tuple(found)


def _seed_values(entry: Mapping[str, Any], metric: str, path: Path) -> list[float]:
    by_seed = mapping(entry.get("seeds") or {}, path)
    values = [numbers(one, path).get(metric) for one in by_seed.values()]
    return [value for value in values if value is not None]


def _whole(value: Any) -> int:
    return int(value) if is_number(value) else 0
