"""How large the gates' statistics are on clean runs: train some, measure them, write calibration.json."""

import importlib
import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ci_tools import experiment, scratch
from ci_tools.config import read_yaml
from ci_tools.errors import ConfigError, RecordError, RecordMismatch
from ci_tools.gates import policy, training
from ci_tools.gates.calibration import FEWEST_RUNS, FILE, Calibration, Reference, save
from ci_tools.gates.convergence import reference_of
from ci_tools.gates.run import open_run
from ci_tools.gates.training import Training
from ci_tools.gates.verdict import Gate, Measurement
from ci_tools.git import git
from ci_tools.record import Record, open_record
from ci_tools.record.provenance import now
from ci_tools.repro.fingerprint import differences

FIRST_SEED = 1001
"""Of the clean runs, so that an experiment's own seeds are judged by others."""
FAMILIES = ("convergence", "gradients", "labels", "numerics", "overfitting", "timing")
"""Modules of ci_tools.gates whose gates look at one training run."""


@dataclass(frozen=True)
class Line:
    """What calibration says about one gate."""

    gate: str
    runs: int
    """Clean runs in which it could be measured."""
    largest: float | None
    """Of their statistics; None where it could not be measured in all."""
    limit: float | None
    """What it now sets; None where the default stays."""
    default: float
    why_not: str = ""


@dataclass(frozen=True)
class Calibrated:
    """What was written, and what it means for each gate."""

    calibration: Calibration
    budget: float
    """Probability that one gate fails a clean run, as gates.yaml has it."""
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        lines = [asdict(line) for line in self.lines]
        return {"file": str(FILE), "seeds": list(self.calibration.seeds), "budget": self.budget, "gates": lines}

    def render(self) -> str:
        """One line per gate."""
        rows = [("gate", "runs", "largest", "limit", "default")]
        rows += [(a.gate, str(a.runs), _shown(a.largest), _shown(a.limit), f"{a.default:.3g}") for a in self.lines]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        text += [f"{line.gate} keeps its default: {line.why_not}" for line in self.lines if line.why_not]
        runs = len(self.calibration.seeds)
        told = f"wrote {FILE}: {runs} clean runs; one of a further {1 / self.budget:.0f} fails a gate by chance"
        return "\n".join([*text, told])


def calibrate(runs: int, records: Sequence[Path] = ()) -> Calibrated:
    """Measure clean runs of the current params, and write calibration.json.

    Args:
        runs: how many to train, with seeds that the experiment does not use; finished ones come from DVC's cache.
        records: finished runs to measure instead.

    Raises:
        ConfigError: fewer than five runs, no training stage, or gates.yaml breaks a rule.
        RecordError: a record is missing, damaged, unfinished, or diverged on its way.
        RecordMismatch: the records have different params or stacks, or the same seed.
        SwitchbackError: a run could not be trained.
    """
    if (count := len(records) or runs) < FEWEST_RUNS:
        raise ConfigError(f"{count} clean runs say nothing about rare values", rule=f"{FEWEST_RUNS} is the least")
    false_alarms, gates = policy.load().false_alarms, calibrated_gates()
    clean, commit, dirty = _given(records) if records else _trained(runs)
    _refuse_unlike(clean)
    trainings = [training.read(record) for record in clean]
    labels = [_labels(record) for record in clean]
    measured = {gate.name: [gate(*own) for own in _subjects(gate, trainings, labels)] for gate in gates}
    meta = clean[0].meta
    calibration = Calibration(
        params_digest=meta.params_digest,
        fingerprint=meta.fingerprint,
        commit=commit,
        dirty=dirty,
        date=now(),
        seeds=tuple(record.meta.seed for record in clean),
        statistics={name: values for name, found in measured.items() if (values := _statistics(found))},
        reference=reference_of(trainings),
    )
    save(calibration)
    seeds = experiment.values().get("seeds", []) if experiment.PARAMS.exists() else []
    budget = false_alarms / max(len(calibration.statistics) * max(len(seeds), 1), 1)
    return Calibrated(calibration, budget, tuple(_line(measured[gate.name], calibration, budget) for gate in gates))


def calibrated_gates() -> list[Gate]:
    """Every gate over one training run whose limit clean runs may set."""
    modules = [importlib.import_module(f"ci_tools.gates.{name}") for name in FAMILIES]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Gate)]
    return [gate for gate in found if gate.calibrated and "training" in _parameters(gate)]


def train(runs: int, commit: str) -> list[Path]:
    """Records of clean runs of a commit's files, trained by the pipeline's own stage in a scratch copy."""
    taken = set(experiment.values().get("seeds", []))
    seeds = list(itertools.islice((seed for seed in itertools.count(FIRST_SEED) if seed not in taken), runs))
    folder = scratch.checkout("calibration", commit)
    scratch.run_pipeline(folder, seeds, targets=[training_stage()])
    return [folder / "runs" / f"seed-{seed}" for seed in seeds]


def training_stage() -> str:
    """The stage of dvc.yaml that writes runs/seed-N.

    Raises:
        ConfigError: there is none.
    """
    for name, stage in read_yaml("dvc.yaml").get("stages", {}).items():
        outs = stage.get("do", stage).get("outs", [])
        if any(str(next(iter(out)) if isinstance(out, Mapping) else out).startswith("runs/seed-") for out in outs):
            return str(name)
    raise ConfigError("no stage writes runs/seed-N", where="dvc.yaml", fix="name the training stage's output so")


def _given(records: Sequence[Path]) -> tuple[list[Record], str, bool]:
    clean = [open_record(path) for path in records]
    return clean, clean[0].meta.git_commit, any(record.meta.git_dirty for record in clean)


def _trained(runs: int) -> tuple[list[Record], str, bool]:
    """Clean runs of the files as they are now, HEAD, and whether they differ from it.

    What a snapshot of uncommitted files is called says nothing to anyone else: it is on no branch.
    """
    files, head = scratch.snapshot(), git("rev-parse", "HEAD")
    return [open_record(path) for path in train(runs, files)], head, files != head


def _refuse_unlike(records: Sequence[Record]) -> None:
    first, seeds = records[0], set()
    for record in records:
        meta, where = record.meta, record.path
        if meta.status != "finished":
            raise RecordError(f"training is {meta.status}", where=where, rule="clean runs have finished")
        if meta.recoveries:
            step = meta.recoveries[0].onset_step
            raise RecordError(f"diverged at step {step}", where=where, rule="clean runs need no recovery")
        if meta.params_digest != first.meta.params_digest:
            raise RecordMismatch("has other params", where=where, rule=f"all are compared with {first.path}")
        if stack := differences(first.meta.fingerprint, meta.fingerprint):
            raise RecordMismatch(f"was made on another stack ({stack[0]})", where=where)
        if meta.seed in seeds:
            raise RecordMismatch(f"has seed {meta.seed} like another", where=where, rule="clean runs are independent")
        seeds.add(meta.seed)


def _labels(record: Record) -> NDArray[Any] | None:
    """The classes of the training examples, where the record stands in its pipeline's folder."""
    path = record.path.resolve().parent.parent / "data/train.npz"
    return open_run([], path.parent.parent).split("train").get("label") if path.exists() else None


def _subjects(
    gate: Gate, trainings: Sequence[Training], labels: Sequence[NDArray[Any] | None]
) -> list[tuple[Training | Reference | NDArray[Any] | None, ...]]:
    """What the gate looks at for each run. No run is part of the reference that it is held against."""
    if "label_N" in _parameters(gate):
        return list(zip(trainings, labels, strict=True))
    if "reference" not in _parameters(gate):
        return [(one,) for one in trainings]
    return [(one, reference_of([other for other in trainings if other is not one])) for one in trainings]


def _parameters(gate: Gate) -> Sequence[str]:
    return list(inspect.signature(gate).parameters)


def _statistics(found: Sequence[Measurement]) -> tuple[float, ...]:
    """One value per run; none where a single run could not be measured, because its absence may be no chance."""
    values = tuple(float(one.reading.statistic) for one in found)
    return values if all(map(math.isfinite, values)) else ()


def _line(found: Sequence[Measurement], calibration: Calibration, budget: float) -> Line:
    first, values = found[0], [float(one.reading.statistic) for one in found]
    missing = [one for one in found if not math.isfinite(one.reading.statistic)]
    return Line(
        gate=first.gate,
        runs=len(found) - len(missing),
        largest=None if missing else max(values),
        limit=calibration.limit(first, budget),
        default=first.limit,
        why_not=missing[0].error or missing[0].reading.diagnosis if missing else "",
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
