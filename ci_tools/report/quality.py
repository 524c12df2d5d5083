"""Quality metrics and slices of a run, with what changed in them against main where a gate compared them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ci_tools.gates.policy import Policy
from ci_tools.gates.quality import SLICE_CLASS, SLICE_ROWS
from ci_tools.gates.verdict import Verdict
from ci_tools.report.left import mapping, read_object, with_recorded
from ci_tools.report.results import Interval, Metric, Slice, finite, name

_METRICS, _SLICES = 30, 8
"""Most that are reported."""
_MOST_ROWS = 2**53


def metrics(root: Path, verdicts: Sequence[Verdict], settings: Policy, seeds: Sequence[int]) -> tuple[Metric, ...]:
    """Those of gates.yaml first, then what else was evaluated, then what only training measured.

    Args:
        root: of the run; evaluation/metrics.json and run records may be missing there.
        verdicts: among them those of `quality_against_main`, whose evidence holds both arms by seed.
        settings: says for which metrics higher is better.
        seeds: of the run, the release's first.
    """
    measured = with_recorded(read_object(root / "evaluation/metrics.json"), root, seeds)
    release, spread = mapping(measured, "release"), mapping(measured, "seeds")
    compared = {one.subject: one for one in verdicts if one.gate == "quality_against_main"}
    told = [metric for metric, one in compared.items() if one.statistic is not None]
    found = []
    for metric in list(dict.fromkeys([*settings.metrics, *release, *spread, *told]))[:_METRICS]:
        over_seeds = mapping(spread, metric)
        mean, sd = finite(over_seeds.get("mean")), finite(over_seeds.get("sd"))
        row = Metric(
            metric=name(metric),
            higher_is_better=_higher_is_better(metric, settings),
            here=finite(release.get(metric)) if mean is None else mean,
            sd=sd if len(seeds) > 1 else None,
            seeds=_count(over_seeds.get("n"), len(seeds)),
        )
        found.append(_against_main(row, compared[metric]) if metric in compared else row)
    return tuple(found)


def slices(root: Path, verdicts: Sequence[Verdict], settings: Policy) -> tuple[Slice, ...]:
    """The worst against main where they were compared, else those with the worst values of the first metric.

    Slices of few rows, or of few rows of the rarer class, are left out of the latter: their values say little.
    """
    table = dict(_rows_of_slices(read_object(root / "evaluation/slices.json")))
    found: list[Slice] = []
    for verdict in verdicts:
        if verdict.gate == "slices_against_main":
            found += _slices_against_main(verdict, table, settings)
    if found:
        return tuple(found[:_SLICES])
    metric = slice_metric(settings, table.values())
    large = [(of, row) for of, row in table.items() if _large(row)]
    values = [(of, row, value) for of, row in large if (value := _mean(row, metric)) is not None]
    values.sort(key=lambda one: one[2], reverse=not _higher_is_better(metric, settings))
    return tuple(
        Slice(slice=name(of), metric=name(metric), rows=_rows(row), here=value) for of, row, value in values[:_SLICES]
    )


def slice_metric(settings: Policy, table: Iterable[Mapping[str, Any]]) -> str:
    """The metric by which slices are shown: the first of gates.yaml that they have, else the first they have; or "".

    Args:
        settings: names the metrics in the order in which they matter.
        table: the slices, as entries of evaluation/slices.json.
    """
    measured = {metric: None for row in table for metric in _metrics_of(row)}
    return next((metric for metric in (*settings.metrics, *measured) if metric in measured), "")


def _metrics_of(row: Mapping[str, Any]) -> Iterable[str]:
    for values in (mapping(row, "release"), *mapping(row, "seeds").values()):
        if isinstance(values, Mapping):
            yield from (str(metric) for metric, value in values.items() if finite(value) is not None)


def _count(known: object, most: int) -> int:
    """Seeds that have a metric; all of them where nothing says how many."""
    return known if type(known) is int and 0 < known <= most else most


def _higher_is_better(metric: str, settings: Policy) -> bool:
    return metric not in settings.metrics or settings.metrics[metric].higher_is_better


def _against_main(row: Metric, verdict: Verdict) -> Metric:
    here, main = (list(_numbers(verdict.evidence.get(f"{arm} by seed"))) for arm in ("here", "main"))
    known: dict[str, Any] = {"outcome": verdict.outcome}
    if here and main:
        known |= {
            "here": fmean(here),
            "sd": stdev(here) if len(here) > 1 else None,
            "main": fmean(main),
            "seeds": min(len(here), len(main)),
            "interval": _of_change(verdict.interval, row.higher_is_better),
            "confidence": finite(verdict.evidence.get("confidence of the interval")),
            "margin": finite(verdict.threshold),
        }
    elif verdict.statistic == 0:  # all scores of both arms are the same, bit by bit
        known |= {"main": row.here, "interval": (0.0, 0.0), "margin": finite(verdict.threshold)}
    return Metric.model_validate(row.model_dump() | known)


def _slices_against_main(verdict: Verdict, table: Mapping[str, Any], settings: Policy) -> Iterable[Slice]:
    metric = verdict.subject.partition(", ")[0]
    higher = _higher_is_better(metric, settings)
    failed = verdict.evidence.get("slices that failed")
    for of, losses in mapping(verdict.evidence, "worst slices").items():
        lost, *ends = [finite(value) for value in losses] if isinstance(losses, list) else [None]
        if lost is None:
            continue
        row = table.get(of, {})
        yield Slice(
            slice=name(of),
            metric=name(metric),
            rows=_rows(row),
            here=_mean(row, metric),
            change=-lost if higher else lost,
            interval=_of_change((ends[0], ends[1]), higher) if len(ends) == 2 else None,
            failed=isinstance(failed, list) and of in failed,
        )


def _of_change(loss: tuple[float | None, float | None] | None, higher_is_better: bool) -> Interval | None:
    """The interval of here minus main, from that of the loss of quality."""
    if loss is None:
        return None
    low, high = (finite(end) for end in loss)
    if not higher_is_better:
        return low, high
    return (None if high is None else -high, None if low is None else -low)


def _rows_of_slices(columns: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for column, values in columns.items():
        if isinstance(values, Mapping):
            yield from ((f"{column}={value}", row) for value, row in values.items() if isinstance(row, Mapping))


def _large(row: Mapping[str, Any]) -> bool:
    rows, positives = row.get("n"), row.get("positives")
    if not (isinstance(rows, int) and isinstance(positives, int)):
        return False
    return rows >= SLICE_ROWS and min(positives, rows - positives) >= SLICE_CLASS


def _mean(row: Mapping[str, Any], metric: str) -> float | None:
    """Over the seeds of a slice."""
    values = [finite(seed.get(metric)) for seed in mapping(row, "seeds").values() if isinstance(seed, Mapping)]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _rows(row: Mapping[str, Any]) -> int | None:
    """None for what cannot be a count of rows."""
    rows = row.get("n")
    return rows if type(rows) is int and 0 <= rows <= _MOST_ROWS else None


def _numbers(by_seed: object) -> Iterable[float]:
    values = by_seed.values() if isinstance(by_seed, Mapping) else ()
    return (number for value in values if (number := finite(value)) is not None)
