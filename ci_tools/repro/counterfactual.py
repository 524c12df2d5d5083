"""Counterfactual diagnosis: rewind a run to before its trouble and run on from there with one change at a time.

The most specific change that clears the symptom names the cause; the other trials are the evidence. A trial that
changes nothing comes first: where it does not show the symptom, no change can be said to clear it.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ci_tools.errors import CheckpointError, RecordError
from ci_tools.record import schema
from ci_tools.record.reader import Record, open_record
from ci_tools.repro import manifest
from ci_tools.repro.compare import static_difference
from ci_tools.repro.segment import Change, Segment
from ci_tools.repro.symptom import Course, Symptom, find_symptom


class Meaning(NamedTuple):
    """How a change reads in a sentence, and what it says of a run that it cures."""

    deed: str
    cause: str


MEANINGS = {
    # Before the batch: one that overflows here and trains well in float64 is not corrupt.
    "float64": Meaning("computing in float64", "overflow or rounding in the run's precision"),
    "batch": Meaning("another batch at {suspects}", "a corrupt batch"),
    "initialisation": Meaning("PyTorch's default initialisation", "a bad initialisation"),
    "half learning rate": Meaning("half the learning rate", "too high a learning rate"),
    "tenth learning rate": Meaning("a tenth of the learning rate", "too high a learning rate"),
    "clipping": Meaning("clipping gradients to a norm of {norm:.3g}", "exploding gradients at an acceptable rate"),
    "seed": Meaning("another seed", "marginal stability, which hangs on data order and random draws"),
}
"""By change, the most specific first: the first that clears the symptom names the cause."""


@dataclass(frozen=True)
class Trial:
    """One change, tried."""

    change: str
    cleared: bool | None
    """None where it could not be run."""
    loss: float
    """Median of its last losses."""
    detail: str = ""
    """Why it ended before its time, if it did."""

    @property
    def result(self) -> str:
        """In a word or two."""
        return {None: "not run", True: "cleared", False: "shown"}[self.cleared]

    def __str__(self) -> str:
        return f"symptom {self.result}, loss {self.loss:.4g}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found."""

    record: str
    onset: int
    reason: str
    level: float
    rewound_to: int
    """Completed steps of the state from which the trials ran; 0 is from scratch."""
    trials: list[Trial]
    """The unchanged control first."""
    cleared_by: str = ""
    """The most specific change that cleared the symptom; empty where none did."""
    cause: str = ""
    explanation: str = ""

    def sentence(self) -> str:
        """The finding in one sentence."""
        return f"{self.record}: diverged at step {self.onset} ({self.reason}); {self.explanation}"

    def render(self) -> str:
        """Sentence and table, as plain text."""
        start = f"the checkpoint after {self.rewound_to} steps" if self.rewound_to else "scratch"
        width = max(len(trial.change) for trial in self.trials)
        lines = [self.sentence(), "", f"trials from {start}; a final loss above {self.level:.4g} is the symptom"]
        for trial in self.trials:
            line = f"  {trial.change:{width}}  {trial.result:7}  loss {trial.loss:<10.4g}  {trial.detail}"
            lines.append(line.rstrip())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "sentence": self.sentence()}


def diagnose(path: str | Path, echo: Callable[[str], None], onset: int | None = None) -> Diagnosis:
    """Find the cause of a divergence or numerical instability, by re-execution in this directory.

    Args:
        path: record of a run that failed, recovered, or went on with a loss far above its past.
        echo: told about each trial.
        onset: step at which the trouble began; by default the record tells.

    Raises:
        RecordError: the record shows no trouble, or its command cannot be run here or runs under other params, code
            or data.
    """
    record = open_record(path)
    symptom = find_symptom(record, Course.of(record), onset)
    starts = _starts(record, symptom)
    for start in starts:
        bench = _Bench(record, symptom, start, echo)
        before = bench.execute(Change())
        bench = replace(bench, symptom=symptom.as_in(before.course))
        control = bench.judge("nothing", before)
        if control.cleared is None:
            raise RecordError(
                f"its command failed: {control.detail}",
                where=path,
                rule="diagnosis runs `" + " ".join(record.meta.command) + "`",
                fix="run from the repository at the commit of the record, with its data in place",
            )
        found = Diagnosis(str(path), symptom.onset, symptom.reason, symptom.level, bench.first_step, [control])
        if control.cleared:
            why = f"the same state ran on unchanged to a loss of {control.loss:.4g}, so nothing can be said to clear it"
            return replace(found, explanation=why)
        found.trials.extend(bench.run(name, change) for name, change in _changes(symptom, start, record.meta.seed))
        if any(trial.cleared for trial in found.trials):
            return _name(found, bench)
    return replace(found, explanation="no single change cleared it, so no cause is named")


# -- the trials -------------------------------------------------------------------------------------------------


def _starts(record: Record, symptom: Symptom) -> list[Path | None]:
    """Where to rewind to, the least first: the newest and the oldest good checkpoint before the suspects, scratch."""
    good: list[Path | None] = []
    for folder in record.checkpoints:
        step = manifest.checkpoint_step(folder)
        try:
            # A checkpoint of the first attempt has a row for each step; one made after a recovery has more.
            if 0 < step <= symptom.suspects[0] and manifest.verify(folder)["trace_rows"] == step:
                good.append(folder)
        except CheckpointError:
            continue
    return [*dict.fromkeys([*good[-1:], *good[:1]]), None]


def _changes(symptom: Symptom, start: Path | None, seed: int) -> Iterator[tuple[str, Change]]:
    yield "float64", Change(float64=True)
    yield "batch", Change(without=symptom.suspects)
    if start is None:
        yield "initialisation", Change(initialise=True)
    yield "half learning rate", Change(lr_factor=0.5)
    yield "tenth learning rate", Change(lr_factor=0.1)
    if np.isfinite(symptom.usual_norm):
        yield "clipping", Change(clip_norm=symptom.usual_norm)
    yield "seed", Change(seed=(seed + 1) % 2**32)


class _Execution(NamedTuple):
    course: Course
    broke_off: str
    """Why it ended before its time, if it did."""


@dataclass(frozen=True)
class _Bench:
    """Runs trials from one starting point."""

    record: Record
    symptom: Symptom
    start: Path | None
    echo: Callable[[str], None]

    @property
    def first_step(self) -> int:
        return manifest.checkpoint_step(self.start) if self.start else 0

    def run(self, name: str, change: Change) -> Trial:
        return self.judge(name, self.execute(change))

    def judge(self, name: str, execution: _Execution) -> Trial:
        shown, loss = self.symptom.shown_by(execution.course), execution.course.loss(self.symptom.end)
        cleared = False if shown else None if execution.broke_off else True
        trial = Trial(name, cleared, loss, execution.broke_off)
        self.echo(f"from step {self.first_step}, change {name}: {trial}")
        return trial

    def execute(self, change: Change) -> _Execution:
        with tempfile.TemporaryDirectory(prefix="switchback-diagnose-") as scratch:
            folder = Path(scratch) / "record"
            checkpoints = folder / schema.CHECKPOINTS
            checkpoints.mkdir(parents=True)
            if self.start is not None:
                shutil.copytree(self.start, checkpoints / self.start.name)
            segment = Segment(str(folder), self.symptom.end - self.first_step, change)
            done = segment.execute(self.record.meta.command)
            if not (folder / schema.META).is_file():
                said = done.stderr.strip().splitlines() or ["it left no record of the segment"]
                return _Execution(Course.empty(), said[-1])
            again = open_record(folder)
            _refuse_other_conditions(self.record, again)
            return _Execution(Course.of(again), "" if again.meta.status == "replayed" else again.meta.reason)


def _refuse_other_conditions(record: Record, again: Record) -> None:
    found = static_difference(record.meta, again.meta)
    if found and found[0] in ("params", "code", "data"):
        raise RecordError(
            f"{found[0]} differ from the record's: {found[1]} now",
            where=record.path,
            rule="diagnosis re-executes what was recorded",
            fix="check out the commit of the record, and `dvc pull` its data",
        )


# -- the answer -------------------------------------------------------------------------------------------------


def _name(found: Diagnosis, bench: _Bench) -> Diagnosis:
    """Name the cause by the most specific change that cleared the symptom."""
    symptom, order = bench.symptom, list(MEANINGS)
    if symptom.outlier is None:  # nothing speaks against these batches but that the run does without them
        order.remove("batch")
        order.insert(-1, "batch")
    cleared, shown = ([t.change for t in found.trials[1:] if t.cleared is answer] for answer in (True, False))
    best = min(cleared, key=order.index)
    suspects, trials = symptom.suspects, found.trials
    if best == "batch" and symptom.outlier is not None and len(suspects) > 1:
        alone = bench.run(f"batch of step {symptom.outlier} alone", Change(without=(symptom.outlier,)))
        trials, suspects = [*trials, alone], (symptom.outlier,) if alone.cleared else suspects
    named = f"step{'s' if len(suspects) > 1 else ''} {', '.join(map(str, suspects))}"
    if suspects == (symptom.outlier,):
        size = f"{symptom.excess:,.4g} times the median before" if np.isfinite(symptom.excess) else "not finite"
        named += f" (gradient norm {size})"

    def deeds(names: list[str]) -> str:
        return ", ".join(MEANINGS[name].deed.format(suspects=named, norm=symptom.usual_norm) for name in names)

    others = [name for name in cleared if name != best]
    also, but = (f", also by {deeds(others)}" if others else ""), (f", not by {deeds(shown)}" if shown else "")
    cause = MEANINGS[best].cause
    explanation = f"cleared by {deeds([best])}{also}{but}: {cause}"
    return replace(found, trials=trials, cleared_by=best, cause=cause, explanation=explanation)
