"""What a pipeline left behind, as far as it can be read: its evaluation, and what training handed to `finish`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ci_tools.record import schema
from ci_tools.report.results import finite


def read_object(path: Path) -> dict[str, Any]:
    """An object of a JSON file; empty where the file is missing or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An entry that is an object; empty where it is missing or anything else."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def with_recorded(evaluation: Mapping[str, Any], root: Path, seeds: Iterable[object]) -> dict[str, Any]:
    """evaluation/metrics.json with the metrics of the run records that it lacks, in the same form.

    Args:
        evaluation: the file's content; empty where there is none.
        root: of the run.
        seeds: whose records count, the release's first; one that cannot be read is left out.

    Returns:
        `release`, metric to value; `seeds`, metric to `mean`, `sd` (of two at least), both unless they are beyond all
        floats, and `n`, the seeds that have it; and all else that the evaluation holds.
    """
    records = [read_object(root / "runs" / f"seed-{seed}" / schema.METRICS) for seed in seeds]
    release, spread = dict(mapping(evaluation, "release")), dict(mapping(evaluation, "seeds"))
    for metric in dict.fromkeys(chain(*records)):
        values = [value for record in records if (value := finite(record.get(metric))) is not None]
        if not values or metric in release or metric in spread:
            continue
        if (own := finite(records[0].get(metric))) is not None:
            release[metric] = own
        spread[metric] = {"n": len(values)} | _moments(values)
    parts = {"release": release, "seeds": spread}
    return {**evaluation, **{key: part for key, part in parts.items() if part}}


def _moments(values: Sequence[float]) -> dict[str, float]:
    try:
        return {"mean": fmean(values)} | ({"sd": stdev(values)} if len(values) > 1 else {})
    except OverflowError:
        return {}
