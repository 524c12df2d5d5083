"""Gates over the exported model: whether it answers as the trained one does, how large and how fast it is, and whether
any file of the run holds a pickle.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ci_tools.errors import DataError, explain
from ci_tools.gates.inference import Engine, in_turns, ratio_of_medians
from ci_tools.gates.pickles import find_pickle
from ci_tools.gates.reasons import Reason
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.training import F64
from ci_tools.gates.verdict import Reading, gate, unmeasured

FOLDERS = ("data", "evaluation", "export")
"""Of a pipeline, next to its run records."""

CONFIDENCE = 0.95
"""Of the interval of the latency ratio."""

_AGAIN = "run `switchback reproduce`"


@gate(
    limit=1.0,
    unit="of the tolerance",
    remedy="find the worst case in export/parity.json and compare the network's operators with the graph's",
)
def onnx_parity(run: Run) -> Reading:
    """Whether ONNX Runtime answers as torch does: the larger of the worst differences in score and in logit, relative
    to the tolerance; a flipped decision or an output that is not finite always exceeds the limit.

    A sigmoid hides what happens to a row far from the decision, so that the logit counts too, as
    |Δlogit| / (1 + |logit|): relative to the row's margin, and absolute where that is small.

    Raises:
        DataError: parity.json lacks a figure, or was made for another graph.
    """
    report, where = run.parity, run.root / "export/parity.json"
    if report.get("sha256") != hashlib.sha256(_content(run.model)).hexdigest():
        raise DataError("describes another graph than export/model.onnx", where=where, fix=_AGAIN)
    names = ("score", "relative_logit", "flips", "nonfinite", "rows", "tolerance")
    score, logit, flips, nonfinite, rows, tolerance = (_figure(report, name, where) for name in names)
    cases = report.get("score_by_case") or {}
    if not rows or not cases or tolerance <= 0:
        return unmeasured(Reason.NO_PARITY, rows=rows, tolerance=tolerance)
    wrong = flips + nonfinite
    statistic = max(score / tolerance, logit / tolerance, 1 + wrong if wrong else 0)
    size, case, level = max((value, case, level) for case, levels in cases.items() for level, value in levels.items())
    return Reading(
        statistic=statistic,
        diagnosis=f"ONNX Runtime and torch differ by up to {score:.2g} in the score and {logit:.2g} in the relative "
        f"logit over {rows:,.0f} rows (tolerance {tolerance:g}); {flips:.0f} decisions flip, {nonfinite:.0f} outputs "
        f"are not finite; the largest difference is in {case} ({level})",
        evidence={
            **{name: report[name] for name in names},
            "logit": report.get("logit"),
            "worst_case": {"case": case, "level": level, "score": size},
            "score_by_case": cases,
        },
    )


@gate(
    limit=0,
    unit="files",
    remedy="write arrays with `allow_pickle=False`, weights as safetensors, and models as ONNX",
)
def no_pickle(run: Run) -> Reading:
    """Number of files of the run that are or hold a pickle: its records with their checkpoints, data, evaluation and
    export.

    Raises:
        RecordError: a record is missing.
        SwitchbackError: a file cannot be read.
    """
    folders = [record.path for record in run.records] + [run.root / name for name in FOLDERS]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    try:
        found = {str(path.relative_to(run.root)): what for path in files if (what := find_pickle(path))}
    except OSError as error:
        raise explain(error) from None
    if not found:
        diagnosis = f"none of the run's {len(files)} files holds a pickle"
    else:
        first, *others = found
        more = f", and so do {len(others)} more files" if others else ""
        diagnosis = f"{first} holds {found[first]}: whoever loads it runs code of its writer's choice{more}"
    return Reading(statistic=len(found), diagnosis=diagnosis, evidence={"files": len(files), "found": found})


@gate(
    limit=1.25,
    unit="times main's size",
    remedy="look for a wider layer, a larger embedding, or weights exported in higher precision or twice",
)
def model_size(run: Run, baseline: Baseline) -> Reading:
    """Bytes of the exported model, tensors in files beside it included, relative to the baseline's.

    Raises:
        DataError: no model was exported.
    """
    size = _bytes(run.model)
    if not size:
        raise DataError("no such file", where=run.model, fix=_AGAIN)
    before = _bytes(baseline.run.model) if baseline.run else 0
    if not before:
        return unmeasured(*_why_alone(baseline), bytes=size)
    return Reading(
        statistic=size / before,
        diagnosis=f"the exported model takes {size:,} bytes, {size / before:.3g} times the baseline's {before:,}",
        evidence={"bytes": size, "baseline_bytes": before},
    )


@gate(
    limit=1.2,
    unit="times main's latency",
    remedy="profile both graphs with onnxruntime.SessionOptions.enable_profiling and compare their slowest operators",
)
def latency(run: Run, baseline: Baseline) -> Reading:
    """Median time of one inference relative to the baseline's, at the worse of two batch sizes.

    Both graphs run in this process on one thread, in turns of random order, so that whatever else the machine does
    meets both alike. The error probability of the interval is split over the batch sizes.

    Raises:
        DataError: no model was exported, or one cannot be run.
        DependencyUnavailable: ONNX Runtime is not installed.
    """
    if not run.model.is_file():
        raise DataError("no such file", where=run.model, fix=_AGAIN)
    random, mine = np.random.default_rng(0), Engine(run)
    if baseline.run is None or not baseline.run.model.is_file():
        times = {size: in_turns([mine.prepared(size)], random) for size in mine.batch_sizes}
        alone = {f"batch_{size}": {"ms": _milliseconds(time_R1[:, 0])} for size, time_R1 in times.items()}
        return unmeasured(*_why_alone(baseline), **alone)
    theirs = Engine(baseline.run)
    shared = [size for size in mine.batch_sizes if size in theirs.batch_sizes]
    if not shared:
        fixed = f"{mine.batch_sizes[0]}, the baseline's {theirs.batch_sizes[0]}"
        return unmeasured(Reason.NO_COMMON_BATCH, f"{Reason.NO_COMMON_BATCH.sentence} (its smallest is {fixed})")
    found: dict[int, dict[str, float]] = {}
    for size in shared:
        time_R2 = in_turns([mine.prepared(size), theirs.prepared(size)], random)
        figures = ratio_of_medians(time_R2, 1 - (1 - CONFIDENCE) / len(shared), random)
        ours, base = (_milliseconds(time_R2[:, i]) for i in (0, 1))
        found[size] = {"ms": ours, "baseline_ms": base, **figures, "rounds": len(time_R2)}
    worst = max(found, key=lambda size: found[size]["ratio"])
    at = found[worst]
    return Reading(
        statistic=at["ratio"],
        interval=(
            max(figures["low"] for figures in found.values()),
            max(figures["high"] for figures in found.values()),
        ),
        diagnosis=f"a batch of {worst} takes {at['ms']:.3g} ms, {at['ratio']:.3g} times the baseline's "
        f"{at['baseline_ms']:.3g} ms (medians of {at['rounds']} rounds on one thread)",
        evidence={f"batch_{size}": figures for size, figures in found.items()},
    )


def _why_alone(baseline: Baseline) -> tuple[Reason, str]:
    """Why there is no model to compare with, as `unmeasured` takes it."""
    return (baseline.reason, baseline.why_not) if baseline.run is None else (Reason.NO_BASE_MODEL, "")


def _milliseconds(seconds_R: F64) -> float:
    return float(np.median(seconds_R)) * 1e3


def _figure(report: Mapping[str, Any], name: str, where: Path) -> float:
    value = report.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{name} is {value!r}", where=where, rule="must be a finite number", fix=_AGAIN)
    return value


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix=_AGAIN) from None
    except OSError as error:
        raise explain(error) from None


def _bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*") if path.is_file())
