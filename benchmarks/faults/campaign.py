"""Thousands of small runs, and what every gate measured on each; one JSON line per run, so that a stop loses little.

Statistics are kept, not verdicts: thresholds can be judged afterwards without training again.
"""

import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults import lookalikes, plants, tasks
from benchmarks.faults.tasks import Observation
from benchmarks.harness import ROOT, read_lines
from ci_tools.config import digest
from ci_tools.console import QUIET, progress
from ci_tools.errors import DataError
from ci_tools.gates.calibration import Reference
from ci_tools.gates.convergence import divergence, plateau, reference_of, slow_convergence
from ci_tools.gates.gradients import dead_units, gradient_noise, gradient_spikes, update_ratio, vanishing_gradients
from ci_tools.gates.labels import label_noise
from ci_tools.gates.leakage import data_leakage
from ci_tools.gates.numerics import numerical_instability
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.reproducibility import checkpoint_corruption
from ci_tools.gates.splits import Rows, Splits
from ci_tools.gates.timing import stragglers
from ci_tools.gates.verdict import Gate, Measurement
from ci_tools.record import open_record
from ci_tools.repro.manifest import file_digest

CALIBRATION, REFERENCE, CLEAN, FAULT, LOOK_ALIKE = "calibration", "reference", "clean", "fault", "look-alike"
ALONE = "slow_convergence without reference"
"""Name under which a line keeps what `slow_convergence` says where there is no calibration."""
PLAIN: tuple[Gate, ...] = (
    divergence, vanishing_gradients, gradient_noise, numerical_instability, overfitting, stragglers, plateau,
    gradient_spikes, dead_units, update_ratio,
)  # fmt: skip
"""Gates that look at the trajectory alone."""
GATES = {gate.name: gate for gate in (*PLAIN, slow_convergence, label_noise, data_leakage, checkpoint_corruption)}
FIRST_SCORED_SEED = 100
"""Lower seeds served to choose the severities of plants and to write the rules."""
FIRST_CALIBRATION_SEED = 1000
Line = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run to make."""

    kind: str
    name: str
    """Of the failure mode or look-alike; empty for clean runs."""
    task: str
    severity: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many runs of each sort."""

    calibration: int
    """Per task; their seeds are used for nothing else."""
    clean: int
    """Per task."""
    fault: int
    """Per mode, severity and task."""
    severities: tuple[str, ...] = plants.SEVERITIES
    look_alike: int
    """Per kind and task."""

    def cells(self) -> list[Cell]:
        """All runs but those of calibration, in an order that leaves a stopped campaign balanced."""
        found = [Cell(CLEAN, "", task, "", seed) for task in tasks.TASKS for seed in _scored(self.clean)]
        found += [
            Cell(FAULT, mode, task, severity, seed)
            for mode in plants.MODES
            for severity in self.severities
            for task in tasks.TASKS
            for seed in _scored(self.fault)
            if plants.plant(mode, severity, task, seed)
        ]
        found += [
            Cell(LOOK_ALIKE, name, task, "", seed)
            for name in lookalikes.KINDS
            for task in tasks.TASKS
            for seed in _scored(self.look_alike)
            if lookalikes.look_alike(name, task)
        ]
        random.Random(0).shuffle(found)
        return found


FULL = Plan(calibration=30, clean=150, fault=20, look_alike=10)
QUICK = Plan(calibration=6, clean=2, fault=1, severities=("strong",), look_alike=1)


def run(plan: Plan, path: Path, workers: int) -> list[Line]:
    """Make every run of the plan that `path` does not hold yet, appending to it; all its lines.

    Raises:
        DataError: other code made the runs that are there; figures of one table come from one version of the gates.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, code = read_lines(path), code_digest()
    if any(line["code"] != code for line in lines):
        raise DataError("holds runs that other code made", where=path, fix="delete it, or judge them with --rescore")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a worker imports torch
    os.environ.pop(QUIET, None)  # only the workers are silent
    with path.open("a", encoding="utf-8") as file:
        # Where the step times matter, a run has the machine to itself: two at once slow each other down at times.
        for title, jobs_of, at_once in (
            ("calibration", _calibrations, 1),
            ("timed runs", _timed_runs, 1),
            ("other runs", _runs, workers),
        ):
            with _pool(at_once) as pool:
                for found in _finished([pool.submit(*job) for job in jobs_of(plan, lines)], title):
                    made = [line | {"code": code} for line in found]
                    file.writelines(json.dumps(line) + "\n" for line in made)
                    file.flush()
                    lines += made
    return lines


def code_digest() -> str:
    """Of all that decides a line: the tasks, plants and gates, and the recorder between them."""
    folders = (ROOT / "benchmarks/faults", ROOT / "ci_tools/gates", ROOT / "ci_tools/record")
    files = sorted(path for folder in folders for path in folder.glob("*.py") if path.name != "score.py")
    return digest({path.relative_to(ROOT).as_posix(): file_digest(path) for path in files})[:12]


def with_limits_of_today(lines: Iterable[Line]) -> list[Line]:
    """The same statistics, beside the limits that the gates have now; a limit that a reading brought along stays."""

    def renewed(name: str, numbers: Line) -> Line:
        gate = GATES.get(name)
        own = gate is None or gate.calibrated != numbers["calibrated"]
        return numbers if own else numbers | {"limit": gate.limit, "floor": gate.floor}

    return [
        line | {"gates": {name: renewed(name, numbers) for name, numbers in line["gates"].items()}}
        if "gates" in line
        else line
        for line in lines
    ]


def references(lines: Iterable[Line]) -> dict[str, Reference]:
    """Per task, how the loss of its calibration runs fell."""
    return {
        line["task"]: Reference(samples=tuple(line["samples"]), loss=tuple(line["loss"]))
        for line in lines
        if line["kind"] == REFERENCE
    }


def calibrate(task: str, seeds: Sequence[int]) -> list[Line]:
    """Clean runs of one task, each held against a reference made of the others; and the reference of them all."""
    lines = []
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        seen = [tasks.run(task, seed, None, Path(folder)) for seed in seeds]
        trainings = [one.training for one in seen]
        for seed, one in zip(seeds, seen, strict=True):
            others = reference_of([other for other in trainings if other is not one.training])
            lines.append(_line(Cell(CALIBRATION, "", task, "", seed), "", one, others))
    return [*lines, {"kind": REFERENCE, "task": task, **reference_of(trainings).model_dump(mode="json")}]


def measure(cell: Cell, reference: Reference) -> list[Line]:
    """One run, and what each gate says about it."""
    fault = None
    if cell.kind == FAULT:
        fault = plants.plant(cell.name, cell.severity, cell.task, cell.seed)
    elif cell.kind == LOOK_ALIKE:
        fault = lookalikes.look_alike(cell.name, cell.task)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        seen = tasks.run(cell.task, cell.seed, fault, Path(folder))
        line = _line(cell, fault.how if fault else "", seen, reference)
    return [line | {"seconds": round(time.perf_counter() - started, 3)}]


def _scored(count: int) -> range:
    return range(FIRST_SCORED_SEED, FIRST_SCORED_SEED + count)


def _line(cell: Cell, how: str, seen: Observation, reference: Reference) -> Line:
    training = seen.training
    found = {gate.name: gate(training) for gate in PLAIN}
    found |= {
        "slow_convergence": slow_convergence(training, reference),
        ALONE: slow_convergence(training),
        "label_noise": label_noise(training, seen.label_N),
        "data_leakage": data_leakage(_splits(seen)),
        "checkpoint_corruption": checkpoint_corruption(open_record(seen.record)),
    }
    return asdict(cell) | {
        "how": how,
        "status": training.status,
        "explained": seen.explained,
        "step_ms": float(np.median(training.step_ms_S[len(training.step_ms_S) // 2 :])),
        "gates": {name: _numbers(measurement) for name, measurement in found.items()},
    }


def _numbers(measurement: Measurement) -> Line:
    """What a verdict needs; see `score.measurement`."""
    reading = measurement.reading
    return {
        "statistic": float(reading.statistic),
        "interval": reading.interval,
        "limit": measurement.limit,
        "floor": measurement.floor,
        "calibrated": measurement.calibrated,
        "error": measurement.error,
    }


def _splits(seen: Observation) -> Splits:
    def rows(table: tuple[Any, Any]) -> Rows:
        x_NF, label_N = table
        if x_NF.dtype.kind == "i":
            return Rows(numeric_NF=np.zeros((len(x_NF), 0)), label_N=label_N, categorical_NC=x_NF)
        return Rows(numeric_NF=x_NF, label_N=label_N)

    return Splits(train=rows(seen.train), test=rows(seen.test))


def _calibrations(plan: Plan, lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    done = {line["task"] for line in lines if line["kind"] == REFERENCE}
    seeds = range(FIRST_CALIBRATION_SEED, FIRST_CALIBRATION_SEED + plan.calibration)
    return [(calibrate, task, seeds) for task in tasks.TASKS if task not in done]


def _timed_runs(plan: Plan, lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    return [job for job in _runs(plan, lines) if job[1].kind != FAULT or job[1].name == "stragglers"]


def _runs(plan: Plan, lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    """Those that `lines` does not hold."""
    reference = references(lines)
    names = [field.name for field in fields(Cell)]
    done = {Cell(**{name: line[name] for name in names}) for line in lines if line["kind"] != REFERENCE}
    return [(measure, cell, reference[cell.task]) for cell in plan.cells() if cell not in done]


def _finished(futures: Sequence[Future[list[Line]]], title: str) -> Iterator[list[Line]]:
    """Results as they come; what has not begun is dropped when the caller stops."""
    try:
        with progress(len(futures), title) as bar:
            for number, future in enumerate(as_completed(futures), 1):
                yield future.result()
                bar.update(number)
    finally:
        for future in futures:
            future.cancel()


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """A worker is silent, and ends with the campaign even where that is killed: its queue would keep it forever."""
    os.environ[QUIET] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _memory() -> str | None:
    """A folder in memory, where there is one: thousands of short runs would otherwise wait for the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
