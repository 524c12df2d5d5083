"""Replay: re-execute segments of a finished run through its own command and compare bit by bit.

Finds accidents and drift: a flipped bit, a stack that changed under the fingerprint, a result that code and params do
not give. It is no proof against somebody who forges a record on purpose.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ci_tools.errors import CheckpointError, RecordError
from ci_tools.record import schema
from ci_tools.record.reader import Record, open_record
from ci_tools.repro import manifest
from ci_tools.repro.compare import bits
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
        return f"steps {first} to {manifest.checkpoint_step(self.end)}"


@dataclass(frozen=True)
class Replay:
    """What was re-executed and what did not agree."""

    record: str
    replayed: list[str]
    available: int
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything agreed bit by bit."""
        return not self.findings

    def render(self) -> str:
        """The findings, or what their absence means."""
        if self.findings:
            return "\n".join(
                [f"{self.record}: replay does not confirm this record", *(f"  {f}" for f in self.findings)]
            )
        k, n = len(self.replayed), self.available
        chance = 1 - 0.9**k if k < n else 1.0
        return (
            f"{self.record}: {k} of {n} segments re-executed, every trace row and end weight agrees bit by bit "
            f"(a corruption of one segment in ten would have been found with probability {chance:.0%})"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "ok": self.ok}


def replay(path: str | Path, segments: int, seed: int, echo: Callable[[str], None]) -> Replay:
    """Re-execute `segments` randomly chosen stretches between checkpoints (all, if there are fewer).

    Args:
        path: a finished record.
        segments: how many stretches.
        seed: of the choice.
        echo: told about each stretch.

    Raises:
        RecordError: the record is not finished, holds no checkpoint, or its command cannot be run here.
    """
    record = open_record(path)
    if record.meta.status != "finished":
        raise RecordError(f"the run is {record.meta.status}", where=path, rule="only a finished run can be replayed")
    findings: list[str] = []
    stretches = _stretches(record, findings)
    if not stretches and not findings:
        raise RecordError("holds no checkpoint to replay to", where=path)
    chosen = sorted(random.Random(seed).sample(range(len(stretches)), min(segments, len(stretches))))  # noqa: S311
    for index in chosen:
        found = _replay_one(record, stretches[index])
        echo(f"replay {stretches[index].name}: {'; '.join(found) if found else 'agrees bit by bit'}")
        findings += found
    return Replay(str(path), [stretches[i].name for i in chosen], len(stretches), findings)


def _stretches(record: Record, findings: list[str]) -> list[Stretch]:
    """Stretches between checkpoints that verify; damaged checkpoints are findings."""
    good: list[tuple[Path, int]] = []
    for folder in record.checkpoints:
        try:
            good.append((folder, int(manifest.verify(folder)["trace_rows"])))
        except CheckpointError as error:
            findings.append(str(error))
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
        return _row_differences(record, again, stretch) + _weight_differences(again, stretch)


def _execute(record: Record, segment: Segment) -> None:
    command = list(record.meta.command)
    if Path(command[0]).name.startswith("python"):
        command[0] = sys.executable
    workdir = record.meta.workdir if Path(record.meta.workdir).is_dir() else None
    environment = {**os.environ, **segment.environment(), "SWITCHBACK_QUIET": "1"}
    try:
        done = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RecordError(f"its command cannot be run ({error.strerror}: {command[0]})", where=record.path) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecordError(
            f"its command failed with exit code {done.returncode}: {last}",
            where=record.path,
            rule="replay runs `" + " ".join(command) + "`",
            fix="run from the repository at the commit of the record, with its data in place",
        )


def _row_differences(record: Record, again: Record, stretch: Stretch) -> list[str]:
    before = record.trace.slice(stretch.first_row, stretch.last_row - stretch.first_row)
    after = again.trace
    if after.num_rows != before.num_rows:
        return [f"{stretch.name}: {after.num_rows} rows instead of {before.num_rows}"]
    worst: tuple[int, str] | None = None
    for column in before.schema.names:
        if column in schema.TIMING_COLUMNS:
            continue
        x, y = bits(before, column), bits(after, column)
        differs = (x != y).reshape(len(x), -1).any(axis=1)
        if differs.any():
            row = int(np.argmax(differs))
            worst = min(worst, (row, column)) if worst else (row, column)
    if worst is None:
        return []
    step = before.column("step")[worst[0]].as_py()
    return [f"{stretch.name}: trace row of step {step} differs in {worst[1]}"]


def _weight_differences(again: Record, stretch: Stretch) -> list[str]:
    folder = again.path / schema.CHECKPOINTS / stretch.end.name
    expected, found = manifest.verify(stretch.end)["tensors"], manifest.verify(folder)["tensors"]
    for file, tensors in expected.items():
        changed = [name for name, digest in tensors.items() if found[file].get(name) != digest]
        if changed:
            return [f"{stretch.name}: {changed[0]} in {stretch.end.name}/{file} differs after re-execution"]
    return []
