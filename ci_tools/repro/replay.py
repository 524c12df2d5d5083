"""Replay: re-execute segments of a finished run through its own command and compare bit by bit.

Finds accidents and drift: a flipped bit, a stack that changed under the fingerprint, a result that code and params do
not give. It is no proof against somebody who forges a record on purpose.
"""

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ci_tools.errors import CheckpointError, RecordError
from ci_tools.record import schema
from ci_tools.record.reader import Record, open_record
from ci_tools.repro import manifest
from ci_tools.repro.compare import first_differing_row, static_difference
from ci_tools.repro.segment import Segment


@dataclass(frozen=True)
class Stretch:
    """From one checkpoint (None: from scratch) to the next: trace rows [first_row, last_row)."""

    start: Path | None
    end: Path
    first_row: int
    last_row: int

    @property
    def name(self) -> str:
        """For people: the steps that it covers."""
        first = manifest.checkpoint_step(self.start) if self.start else 0
        return f"steps {first} to {self.last_step}"

    @property
    def last_step(self) -> int:
        """Completed steps at its end."""
        return manifest.checkpoint_step(self.end)


@dataclass(frozen=True)
class Replay:
    """What was re-executed and what did not agree."""

    record: str
    replayed: list[str]
    available: int
    findings: list[str] = field(default_factory=list)
    note: str = ""
    """What a reader of the findings should know of where they were made."""

    @property
    def ok(self) -> bool:
        """Whether everything agreed bit by bit."""
        return not self.findings

    def render(self) -> str:
        """The findings, or what their absence means."""
        note = [f"  note: {self.note}"] if self.note else []
        if self.findings:
            lines = [f"{self.record}: replay does not confirm this record", *(f"  {f}" for f in self.findings)]
            return "\n".join(lines + note)
        k, n = len(self.replayed), self.available
        chance = 1 - 0.9**k if k < n else 1.0
        verdict = (
            f"{self.record}: {k} of {n} segments re-executed, every row and end weight agrees bit by bit "
            f"(a corruption of one segment in ten would have been found with probability {chance:.0%})"
        )
        return "\n".join([verdict, *note])

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "ok": self.ok}


def replay(path: str | Path, segments: int, seed: int, echo: Callable[[str], None]) -> Replay:
    """Re-execute `segments` randomly chosen stretches between checkpoints (all, if there are fewer), in this directory.

    Args:
        path: a finished record.
        segments: how many stretches.
        seed: of the choice.
        echo: told about each stretch.

    Raises:
        RecordError: the record is not finished or holds no checkpoint, or its command cannot be run here or runs under
            other params, code, data or stack.
    """
    record = open_record(path, checked=False)  # a changed file is a finding, and execution tells where it changed
    if record.meta.status != "finished":
        raise RecordError(f"the run is {record.meta.status}", where=path, rule="only a finished run can be replayed")
    findings = [f"{name} does not match the digest in {schema.META}" for name in record.changed_files()]
    stretches = _stretches(record, findings)
    if not stretches and not findings:
        raise RecordError("holds no checkpoint to replay to", where=path)
    count = min(segments, len(stretches))
    chosen = sorted(random.Random(seed).sample(range(len(stretches)), count))  # noqa: S311 - a sample, no secret
    for index in chosen:
        found = _replay_one(record, stretches[index])
        echo(f"replay {stretches[index].name}: {'; '.join(found) if found else 'agrees bit by bit'}")
        findings += found
    recorded = record.meta.workdir
    note = "" if Path(recorded) == Path.cwd() else f"recorded in {recorded}, re-executed in {Path.cwd()}"
    return Replay(str(path), [stretches[i].name for i in chosen], len(stretches), findings, note)


def _stretches(record: Record, findings: list[str]) -> list[Stretch]:
    """Stretches between checkpoints that verify; damaged checkpoints are findings."""
    good: list[tuple[Path, int]] = []
    for folder in record.checkpoints:
        try:
            stated = manifest.verify(folder)["trace_rows"]
        except CheckpointError as error:
            findings.append(str(error))
            continue
        rows = record.rows_before(manifest.checkpoint_step(folder))
        if stated != rows:
            findings.append(f"{folder.name}: its manifest counts {stated} trace rows, the trace {rows}")
        good.append((folder, rows))
    starts: list[tuple[Path | None, int]] = [(None, 0), *good]
    return [
        Stretch(start, end, first, last)
        for (start, first), (end, last) in zip(starts[:-1], good, strict=True)
        if last > first
    ]


def _replay_one(record: Record, stretch: Stretch) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="switchback-replay-") as scratch:
        folder = Path(scratch) / "record"
        checkpoints = folder / schema.CHECKPOINTS
        checkpoints.mkdir(parents=True)
        if stretch.start is not None:
            shutil.copytree(stretch.start, checkpoints / stretch.start.name)
        _execute(record, Segment(str(folder), stretch.last_row - stretch.first_row))
        again = open_record(folder)
        changed = _what_changed(record, again)
        return changed or _row_differences(record, again, stretch) + _weight_differences(again, stretch)


def _what_changed(record: Record, again: Record) -> list[str]:
    """Refuse to judge by what is not the record's experiment; differing initial weights are a finding."""
    found = static_difference(record.meta, again.meta)
    if found is None:
        return []
    rung, detail = found
    if rung == "initial weights":
        return [f"initial weights differ after re-execution: {detail}"]
    fix = "check out the commit of the record, and `dvc pull` its data"
    if rung == "fingerprint":
        rule, fix = "bits are comparable on the same stack only", "replay on the stack of the record"
    else:
        rule = "replay re-executes what was recorded"
    raise RecordError(f"{rung} differ from the record's: {detail} now", where=record.path, rule=rule, fix=fix)


def _execute(record: Record, segment: Segment) -> None:
    command = record.meta.command
    done = segment.execute(command)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecordError(
            f"its command failed with exit code {done.returncode}: {last}",
            where=record.path,
            rule="replay runs `" + " ".join(command) + "`",
            fix="run from the repository at the commit of the record, with its data in place",
        )
    if not (Path(segment.record) / schema.META).is_file():
        raise RecordError("its command left no record of the segment", where=record.path, rule="it must use Recorder")


def _row_differences(record: Record, again: Record, stretch: Stretch) -> list[str]:
    before = record.trace.slice(stretch.first_row, stretch.last_row - stretch.first_row)
    after = again.trace
    if after.num_rows != before.num_rows:
        return [f"{stretch.name}: {after.num_rows} rows instead of {before.num_rows}"]
    found = first_differing_row(before, after, [n for n in before.schema.names if n not in schema.TIMING_COLUMNS])
    if found is not None:
        step = before.column("step")[found.row].as_py()
        return [f"{stretch.name}: trace row of step {step} differs in {found.column}"]
    return _measurement_differences(record, again, stretch)


def _measurement_differences(record: Record, again: Record, stretch: Stretch) -> list[str]:
    """Probes and evaluations of the stretch's steps."""
    taken = set(zip(*(again.trace.column(name).to_pylist() for name in ("attempt", "step")), strict=True))
    for what, a, b, ahead in (("probe", record.probes, again.probes, 0), ("evaluation", record.evals, again.evals, 1)):
        before, after = _rows_of(a, taken, ahead), _rows_of(b, taken, ahead)
        found = first_differing_row(before, after, before.schema.names)
        if found is not None:
            step = before.column("step")[found.row].as_py()
            return [f"{stretch.name}: {what} of step {step} differs in {found.column}"]
        # The final scoring comes after the loop, where a segment has ended; it may add rows to the last step.
        if before.num_rows < after.num_rows or (
            before.num_rows > after.num_rows and stretch.last_step < record.meta.steps
        ):
            return [f"{stretch.name}: {before.num_rows} rows of {what}s, {after.num_rows} after re-execution"]
    return []


def _rows_of(table: pa.Table, taken: set[tuple[int, int]], ahead: int) -> pa.Table:
    """Rows of these (attempt, step), where the table counts steps `ahead` of the trace."""
    keys = zip(*(table.column(name).to_pylist() for name in ("attempt", "step")), strict=True)
    return table.filter(pa.array([(attempt, step - ahead) in taken for attempt, step in keys], pa.bool_()))


def _weight_differences(again: Record, stretch: Stretch) -> list[str]:
    folder = again.path / schema.CHECKPOINTS / stretch.end.name
    if not folder.is_dir():
        return [f"{stretch.name}: re-execution did not end at {stretch.end.name}"]
    expected, found = manifest.verify(stretch.end)["tensors"], manifest.verify(folder)["tensors"]
    for file, tensors in expected.items():
        changed = [name for name, digest in tensors.items() if found[file].get(name) != digest]
        if changed:
            return [f"{stretch.name}: {changed[0]} in {stretch.end.name}/{file} differs after re-execution"]
    return []
