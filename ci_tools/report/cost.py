"""What a run cost, and what the cache saved: sums over the stages of the pipeline's last walk and over the records.

A stage's last real run is remembered in .switchback/walk.json (see `ci_tools.walk`) on the machine where it ran. Where
a training came from the cache of another machine, its record says how long it took.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ci_tools.report.results import Results, SeedRun, Stage

SPARED = ("cached", "restored")
"""Outcomes of a stage that did not run."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Sums; None where nothing is known."""

    train_seconds: float
    """In steps, over all records, whenever they were made."""
    gpu_minutes: float
    """The same in minutes, times each run's GPUs; 0 on a CPU."""
    gpu_minutes_now: float | None
    """Of which in the last walk."""
    joules: float | None
    """Energy of the GPUs over all records; None unless every record that used one has it."""
    saved_seconds: float
    """What the stages that did not run took when they last did, less what it took to find that out."""
    saved_unknown: int
    """Stages that did not run and of which nobody knows how long that would have taken."""


def of(results: Results) -> Cost:
    """The cost of what `results` reports."""
    spared = [stage for stage in results.stages if stage.outcome in SPARED]
    known = [(stage.ran_seconds, stage.seconds) for stage in spared if stage.ran_seconds is not None]
    on_gpu = [run for run in results.runs if run.gpus]
    energies = [run.joules for run in on_gpu]
    measured = [joules for joules in energies if joules is not None]
    return Cost(
        train_seconds=sum(run.train_seconds for run in results.runs),
        gpu_minutes=_gpu_minutes(on_gpu),
        gpu_minutes_now=_gpu_minutes([run for run in on_gpu if _ran(run, results.stages)]) if results.stages else None,
        joules=sum(measured) if measured and len(measured) == len(energies) else None,
        saved_seconds=sum(max(ran - now, 0.0) for ran, now in known),
        saved_unknown=len(spared) - len(known),
    )


def _gpu_minutes(runs: Sequence[SeedRun]) -> float:
    return sum(run.train_seconds * run.gpus for run in runs) / 60


def _ran(run: SeedRun, stages: Sequence[Stage]) -> bool:
    return any(stage.outcome == "ran" and stage.stage.partition("@")[2] == str(run.seed) for stage in stages)
