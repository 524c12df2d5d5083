"""Quality on the test split: metrics, what changed against the base revision, calibration."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_tools.errors import DataError
from ci_tools.gates.files import Verdicts
from ci_tools.gates.policy import Policy
from ci_tools.gates.run import Run
from ci_tools.gates.verdict import Verdict
from ci_tools.report import quality as qualities
from ci_tools.report import wording
from ci_tools.report.html.values import FIX, is_number, mapping, numbers
from ci_tools.report.html.verdicts import Whisker, whisker
from ci_tools.report.left import with_recorded
from ci_tools.report.results import Metric, name

AGAINST = "quality_against_main"
"""The gate that compares metrics."""
METRICS, CALIBRATION = "evaluation/metrics.json", "evaluation/calibration.csv"
_Z = 1.96
"""Of a two-sided interval at 95 %."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Metrics of the release, their spread over seeds, and those of simpler models."""

    models: tuple[str, ...]
    """Columns beside the release and its seeds."""
    rows: tuple[tuple[str, float | None, Mapping[str, float], tuple[float | None, ...]], ...]
    """Metric, release, spread over seeds, other models."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """One metric against the base revision, read as the comment reads it; a positive loss is worse."""

    verdict: Verdict
    here: float | None
    main: float | None
    whisker: Whisker | None
    reading: str
    """Whether the difference is noise, and whether it matters."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of the calibration curve; the interval is Wilson's at 95 %, or none where the rows are not known."""

    predicted: float
    observed: float
    rows: int
    low: float
    high: float


def quality(run: Run) -> Quality | None:
    """What evaluation/metrics.json and the run records say; None where there is no metric.

    Raises:
        DataError: it is damaged.
    """
    path = run.root / METRICS
    evaluation = run.metrics if path.exists() else {}
    for part in ("release", "seeds"):
        mapping(evaluation.get(part, {}), path)
    measured = with_recorded(evaluation, run.root, run.seeds)
    if not measured:
        return None
    of_release, seeds = (mapping(measured.get(part, {}), path) for part in ("release", "seeds"))
    release, spread = numbers(of_release, path), {name: numbers(values, path) for name, values in seeds.items()}
    models = tuple(name for name in evaluation if name not in ("release", "seeds"))
    others = {name: numbers(evaluation[name], path) for name in models}
    return Quality(
        models=models,
        rows=tuple(
            (name, release.get(name), spread.get(name, {}), tuple(others[model].get(name) for model in models))
            for name in dict.fromkeys([*release, *filter(spread.get, spread)])
        ),
    )


def against(run: Run, verdicts: Verdicts, settings: Policy) -> tuple[Against, ...]:
    """What the gate `AGAINST` found, metric by metric; empty where it did not run."""
    told = qualities.metrics(run.root, verdicts.verdicts, settings, run.seeds)
    rows = {row.metric: row for row in told if row.outcome}
    found = [(verdict, rows.get(name(verdict.subject))) for verdict in verdicts.verdicts if verdict.gate == AGAINST]
    return tuple(_against(verdict, row) for verdict, row in found if row)


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
        lines = [(float(p), float(o), 0) for p, o in zip(*pairs, strict=False) if is_number(p) and is_number(o)]
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
        raise DataError(f"is damaged ({error})", where=path, fix=FIX) from None


def _bin(predicted: float, observed: float, rows: int) -> Bin:
    low, high = wilson(observed, rows)
    return Bin(predicted=predicted, observed=observed, rows=rows, low=low, high=high)


def _against(verdict: Verdict, row: Metric) -> Against:
    picture = None
    if verdict.statistic is not None and verdict.threshold is not None:
        low, high = verdict.interval or (verdict.statistic, verdict.statistic)
        picture = whisker(low, high, verdict.statistic, verdict.threshold)
    return Against(verdict=verdict, here=row.here, main=row.main, whisker=picture, reading=wording.reading(row))
