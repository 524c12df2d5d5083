"""Gates over repeating a run: the checkpoints from which it can be taken up, and the same run made twice."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ci_tools.errors import CheckpointError, RecordError
from ci_tools.gates.reasons import Reason
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.verdict import Reading, gate, unmeasured
from ci_tools.record import Record, schema
from ci_tools.repro import manifest
from ci_tools.repro.compare import Comparison, compare, static_difference

_EXPONENT = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000), "F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80),
}  # fmt: skip
"""By safetensors type: integers of its width, and the bits that are all set in NaN and infinity only (IEEE 754)."""


@gate(
    limit=0,
    unit="damaged items",
    remedy="restore the record with `dvc checkout`, or train again; then let `switchback replay` show that the run "
    "resumes from its checkpoints bit by bit",
)
def checkpoint_corruption(record: Record) -> Reading:
    """Number of checkpoints and files of a record that are not what the training process left.

    A checkpoint is damaged where its manifest is not the one in run.json, a file or tensor differs from the manifest,
    it counts other trace rows than there are before its step, a weight is not finite though the training around it
    was, or where it is gone though run.json or another checkpoint counts on it.
    """
    if not record.checkpoints and record.meta.status != "finished":
        told = f"the run is {record.meta.status} and has no checkpoint"
        return unmeasured(Reason.NO_CHECKPOINT, told, steps=record.meta.steps)
    found = _damage(record)
    count = f"{len(record.checkpoints)} checkpoints and {len(record.meta.files)} digests in {schema.META}"
    if not found:
        diagnosis = f"{count} agree with what is on disk, and every weight is finite"
    else:
        name, *others = found
        more = f", and {len(others)} more" if others else ""
        diagnosis = f"{name}: {found[name]}{more}"
    evidence = {"checkpoints": [path.name for path in record.checkpoints], "damaged": found}
    return Reading(statistic=len(found), diagnosis=diagnosis, evidence=evidence, subject=record.path.name)


def _damage(record: Record) -> dict[str, str]:
    """What is wrong, by checkpoint or file; the checkpoints first."""
    changed = record.changed_files()
    files = {name: "is not the file that the finished run left" for name in changed if "/" not in name}
    mended = {Path(name).parent.name for name in changed if "/" in name}
    trace = None
    if schema.TRACE not in files:
        try:
            trace = record.trace
        except RecordError as error:
            files[schema.TRACE] = error.what
    found, wanted = {}, mended | _released(record)
    for folder in record.checkpoints:
        try:
            content = manifest.verify(folder)
            problem = "its manifest is not the one that the finished run left" if folder.name in mended else ""
            if content["best_step"]:
                wanted.add(manifest.checkpoint_name(content["best_step"]))
            if trace is not None:
                problem = problem or _wrong_rows(record, folder, content) or _wrong_weights(record, folder, content)
        except CheckpointError as error:
            problem = error.what
        if problem:
            found[folder.name] = problem
    gone = wanted - {folder.name for folder in record.checkpoints}
    return found | dict.fromkeys(sorted(gone), "is gone, though the record counts on it") | files


def _released(record: Record) -> set[str]:
    """Checkpoints that a finished run.json counts on: the last and the released one."""
    if record.meta.status != "finished":
        return set()
    return {manifest.checkpoint_name(step) for step in (record.meta.steps, record.meta.best_step) if step}


def _wrong_rows(record: Record, folder: Path, content: dict[str, Any]) -> str:
    rows = record.rows_before(manifest.checkpoint_step(folder))
    return "" if content["trace_rows"] == rows else f"it counts {content['trace_rows']} trace rows, the trace {rows}"


def _wrong_weights(record: Record, folder: Path, content: dict[str, Any]) -> str:
    """The first weight that is not finite, unless training itself brought it about, which other gates judge."""
    name = _nonfinite(folder / "model.safetensors")
    if not name:
        return ""
    row, loss = content["trace_rows"], record.trace.column("loss")
    if row < len(loss):
        training = not math.isfinite(loss[row].as_py())
    else:
        training = row > 0 and record.trace.column("nonfinite")[row - 1].as_py() > 0
    return "" if training else f"tensor {name} holds values that are not finite, though the training did not"


def _nonfinite(path: Path) -> str:
    """The first floating-point tensor of a verified safetensors file with a NaN or an infinity; empty without one."""
    data = np.fromfile(path, np.uint8)
    start = 8 + int(data[:8].view("<u8")[0])
    for name, info in json.loads(data[8:start].tobytes()).items():
        if info.get("dtype") in _EXPONENT:
            integers, exponent = _EXPONENT[info["dtype"]]
            first, last = info["data_offsets"]
            bits = data[start + first : start + last].view(integers)
            if np.any(bits & bits.dtype.type(exponent) == exponent):
                return str(name)
    return ""


@gate(
    limit=0,
    unit="differing runs",
    remedy="run `switchback compare` on the two records, and look for randomness that the seed does not decide: "
    "time, hash order, threads, non-deterministic kernels",
)
def reproducible(run: Run, baseline: Baseline) -> Reading:
    """Number of seeds whose run differs in any bit from the baseline's, though params, code, data and stack are equal.

    Runs of other params, code, data or stack say nothing here, nor does one run that both sides took from the cache.

    Raises:
        RecordError: a record is missing or damaged.
        CheckpointError: a checkpoint is damaged.
    """
    if baseline.run is None:
        return unmeasured(baseline.reason, baseline.why_not)
    before = {record.meta.seed: record for record in baseline.run.records}
    skipped: dict[str, tuple[Reason, str]] = {}
    compared: dict[str, Comparison] = {}
    for record in run.records:
        seed, other = str(record.meta.seed), before.get(record.meta.seed)
        if other is None:
            skipped[seed] = Reason.OTHER_SEEDS, "the baseline has no run of this seed"
        elif why_not := _incomparable(other, record):
            skipped[seed] = why_not
        else:
            compared[seed] = compare(other.path, record.path)
    evidence = {
        "steps": {seed: found.steps for seed, found in compared.items()},
        "skipped": {seed: told for seed, (_, told) in skipped.items()},
    }
    if not compared:
        reason, told = next(iter(skipped.values()), (Reason.NOTHING, "there is none"))
        return unmeasured(reason, f"no run was made twice: {told}", **evidence)
    differing = {seed: found.sentence() for seed, found in compared.items() if not found.identical}
    if differing:
        seed = next(iter(differing))
        share = f"{len(differing)} of {len(compared)} runs made twice differ"
        diagnosis = f"{share}; seed {seed}: {differing[seed]}"
    else:
        steps = min(found.steps for found in compared.values())
        diagnosis = f"{len(compared)} runs made twice agree bit by bit over {steps:,} steps, evaluations and weights"
    return Reading(statistic=len(differing), diagnosis=diagnosis, evidence=evidence | {"differing": differing})


def _incomparable(before: Record, now: Record) -> tuple[Reason, str] | None:
    """Why the bits of two runs need not agree, or would prove nothing; None where they must."""
    if before.meta.id == now.meta.id:
        return Reason.SAME_RUN, Reason.SAME_RUN.sentence
    for record in (before, now):
        if record.meta.status != "finished":
            return Reason.CUT_SHORT, f"{record.path} is {record.meta.status}"
        if any(resume.stack_changes for resume in record.meta.resumes):
            return Reason.CUT_SHORT, f"{record.path} was resumed on another stack"
    rung, detail = static_difference(before.meta, now.meta) or ("", "")
    if rung in ("params", "code", "data", "fingerprint"):
        told = f"{rung} differ ({detail}); quality_against_main compares such runs by paired seeds"
        return Reason.OTHER_INPUTS, told
    return None
