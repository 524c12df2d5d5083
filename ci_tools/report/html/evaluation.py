"""Quality on the test split: metrics, what changed against the base revision, slices, calibration."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.errors import DataError
from ci_tools.gates.files import Verdicts
from ci_tools.gates.run import Run
from ci_tools.gates.verdict import Verdict
from ci_tools.report.html.verdicts import Whisker, whisker

METRICS, SLICES, CALIBRATION = "evaluation/metrics.json", "evaluation/slices.json", "evaluation/calibration.csv"
_PREFERRED = ("average_precision", "roc_auc", "accuracy", "log_loss")
_SLICES = 60
"""Most slices that are listed."""
_Z = 1.96
"""Of a two-sided interval at 95 %."""
_FIX = "run `switchback reproduce`"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Metrics of the release, their spread over seeds, and those of simpler models."""

    models: tuple[str, ...]
    """Columns beside the release and its seeds."""
    rows: tuple[tuple[str, float | None, Mapping[str, float], tuple[float | None, ...]], ...]
    """Metric, release, spread over seeds, other models."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """One metric, or slice of it, against the base revision; a positive loss is worse."""

    verdict: Verdict
    here: float | None
    main: float | None
    whisker: Whisker | None
    word: str
    """Whether the difference is noise."""


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
    """The release's first metric, slice by slice."""

    metric: str
    rows: tuple[SliceRow, ...]
    overall: float | None
    """Place of the whole test split."""
    domain: tuple[float, float]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of the calibration curve; the interval is Wilson's at 95 %, or none where the rows are not known."""

    predicted: float
    observed: float
    rows: int
    low: float
    high: float


def quality(run: Run) -> Quality | None:
    """What evaluation/metrics.json says; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    if not (run.root / METRICS).exists():
        return None
    release = _numbers(run.metrics.get("release", {}), run, METRICS)
    seeds = run.metrics.get("seeds", {})
    spread = {name: _numbers(values, run, METRICS) for name, values in _object(seeds, run, METRICS).items()}
    models = tuple(name for name in run.metrics if name not in ("release", "seeds"))
    others = {name: _numbers(run.metrics[name], run, METRICS) for name in models}
    return Quality(
        models=models,
        rows=tuple(
            (name, value, spread.get(name, {}), tuple(others[model].get(name) for model in models))
            for name, value in release.items()
        ),
    )


def against(verdicts: Verdicts, gate: str = "quality_against_main") -> tuple[Against, ...]:
    """What the gate found, metric by metric; empty where it did not run."""
    return tuple(_against(verdict) for verdict in verdicts.verdicts if verdict.gate == gate)


def worst_slices(verdicts: Verdicts) -> tuple[tuple[str, str, float, float, float], ...]:
    """Metric, slice, loss and its interval, of the slices that `slices_against_main` names."""
    found = []
    for verdict in verdicts.verdicts:
        named = verdict.evidence.get("worst slices") if verdict.gate == "slices_against_main" else None
        for name, values in (named if isinstance(named, Mapping) else {}).items():
            if isinstance(values, list | tuple) and len(values) == 3 and all(map(_is_number, values)):
                low, high = sorted(map(float, values[1:]))
                found.append((verdict.subject.split(",")[0], str(name), float(values[0]), low, high))
    return tuple(found)


def slices(run: Run) -> Slices | None:
    """What evaluation/slices.json says of the first metric; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    if not (run.root / SLICES).exists():
        return None
    found = [
        (str(column), str(value), _object(entry, run, SLICES))
        for column, values in run.slices.items()
        for value, entry in _object(values, run, SLICES).items()
    ]
    names = [name for _, _, entry in found for name in _object(entry.get("release") or {}, run, SLICES)]
    metric = next((name for name in (*_PREFERRED, *names) if name in names), "")
    measured = [_seed_values(entry, metric, run) for _, _, entry in found]
    release = [_numbers(entry.get("release") or {}, run, SLICES).get(metric) for _, _, entry in found]
    every = [value for values in measured for value in values] + [value for value in release if value is not None]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    span = high - low or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * min(max((value - low) / span, 0.0), 1.0), 2)

    whole = _release(run).get(metric)
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
        rows=rows[:_SLICES],
        overall=None if whole is None or not low <= whole <= high else place(whole),
        domain=(low, high),
        left_out=max(len(rows) - _SLICES, 0),
    )


def calibration(run: Run, verdicts: Verdicts) -> tuple[Bin, ...]:
    """The release's reliability curve: from evaluation/calibration.csv, else from the gate's evidence; or nothing.

    Raises:
        DataError: the file is damaged.
    """
    path = run.root / CALIBRATION
    if path.exists():
        lines = _lines(path)
    else:
        evidence = next((one.evidence for one in verdicts.verdicts if one.gate == "calibration_error"), {})
        pairs = [evidence.get(f"{name} by bin", []) for name in ("predicted", "observed")]
        lines = [(float(p), float(o), 0) for p, o in zip(*pairs, strict=False) if _is_number(p) and _is_number(o)]
    good = [line for line in lines if all(0 <= value <= 1 for value in line[:2])]
    return tuple(_bin(*line) for line in good)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` rows (Wilson 1927); the share itself where there is none."""
    if n <= 0:
        return share, share
    middle, spread = share + _Z**2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max((middle - spread) / (1 + _Z**2 / n), 0.0), min((middle + spread) / (1 + _Z**2 / n), 1.0)


def _lines(path: Path) -> list[tuple[float, float, int]]:
    """Predicted share, observed share and rows of each bin."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            head = next(reader, [])
            places = [head.index(name) for name in ("predicted", "observed", "n")]
            rows = [[row[place] for place in places] for row in reader]
        return [(float(predicted), float(observed), int(n)) for predicted, observed, n in rows]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"is damaged ({error})", where=path, fix=_FIX) from None


def _bin(predicted: float, observed: float, rows: int) -> Bin:
    low, high = wilson(observed, rows)
    return Bin(predicted=predicted, observed=observed, rows=rows, low=low, high=high)


def _against(verdict: Verdict) -> Against:
    here, main = (_mean(verdict.evidence.get(f"{arm} by seed")) for arm in ("here", "main"))
    if verdict.statistic is None or verdict.threshold is None:
        return Against(verdict=verdict, here=here, main=main, whisker=None, word="not compared")
    low, high = verdict.interval or (verdict.statistic, verdict.statistic)
    if low > 0:
        word = "worse, beyond the noise"
    elif high < 0:
        word = "better, beyond the noise"
    else:
        word = "identical" if low == high == 0 else "within the noise"
    picture = whisker(low, high, verdict.statistic, verdict.threshold)
    return Against(verdict=verdict, here=here, main=main, whisker=picture, word=word)


def _seed_values(entry: Mapping[str, Any], metric: str, run: Run) -> list[float]:
    by_seed = _object(entry.get("seeds") or {}, run, SLICES)
    values = [_numbers(one, run, SLICES).get(metric) for one in by_seed.values()]
    return [value for value in values if value is not None]


def _release(run: Run) -> dict[str, float]:
    return _numbers(run.metrics.get("release", {}), run, METRICS) if (run.root / METRICS).exists() else {}


def _object(value: Any, run: Run, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"holds {json.dumps(value)[:60]} in place of an object", where=run.root / name, fix=_FIX)
    return value


def _numbers(value: Any, run: Run, name: str) -> dict[str, float]:
    """The entries that are finite numbers."""
    return {str(key): float(one) for key, one in _object(value, run, name).items() if _is_number(one)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> int:
    return int(value) if _is_number(value) else 0


def _mean(values: Any) -> float | None:
    kept: Sequence[float] = [one for one in values.values() if _is_number(one)] if isinstance(values, Mapping) else []
    return sum(kept) / len(kept) if kept else None
