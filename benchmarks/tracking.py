"""What live tracking costs the process that trains: whole runs with a tracker beside them, and without.

A run's figure is the wall time of `model.train.train`, without imports and without preparing the data. The tracker is
started before the run and told to end after it, as `switchback run` does; its own end is not part of the figure.
"""

import contextlib
import os
import socket
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Arm, Result, Rounds, Steps, interleave, measuring
from benchmarks.reference import shipped_params
from benchmarks.train import SEED, small_params
from ci_tools.record import open_record
from ci_tools.report.track import kept
from ci_tools.report.track.beside import KEY, tracking
from ci_tools.repro.determinism import make_deterministic
from ci_tools.repro.manifest import file_digest
from model.data import prepare
from model.params import Params
from model.train import train

FULL = Rounds(rounds=15, turns=1, block=1, warmup=1)
QUICK = Rounds(rounds=2, turns=1, block=1, warmup=0)
RECORD = Path("runs/seed-1")
END = 60.0
"""Seconds that a tracker may take to end, between two runs."""


class Stopwatch:
    """A clock that goes only while a run trains."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        return self.seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let it go."""
        started = perf_counter()
        yield
        self.seconds += perf_counter() - started


def main(options: Namespace) -> Result:
    """Alone, with a tracker that writes for `wandb sync`, and with one whose server takes calls and never answers."""
    plan = QUICK if options.quick else FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    params = small_params(transactions=60_000, steps=40) if options.quick else shipped_params()
    make_deterministic(params.train.threads)
    settings = {"network": params.network.model_dump(), "train": params.train.model_dump(mode="json")}
    settings |= plan._asdict()
    with (
        tempfile.TemporaryDirectory() as scratch,
        socket.create_server(("127.0.0.1", 0)) as silent,
        measuring("tracking", options.command, settings, "s per run", threads=params.train.threads) as result,
    ):
        folder, clock = Path(scratch), Stopwatch()
        prepare(params.data, folder / "data")
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environments: dict[str, dict[str, str]] = {
            "alone": {},
            "tracked": {"WANDB_MODE": "offline"},
            "tracked, server silent": {"WANDB_MODE": "online", KEY: "0" * 40, "WANDB_BASE_URL": address},
        }
        weights: set[str] = set()
        kept_runs: Counter[str] = Counter()
        arms = [
            Arm(name, _runs(partial(_run, params, folder, name, environment, clock, weights, kept_runs)), "alone")
            for name, environment in environments.items()
        ]
        result.add(arms, interleave(arms, plan, clock=clock))
        result.facts["different weights over all runs"] = len(weights)
        result.facts["runs whose every step was kept for W&B"] = dict(kept_runs)
    return result


def _runs(run: Callable[[], None]) -> Steps:
    while True:
        run()
        yield


def _run(
    params: Params,
    folder: Path,
    name: str,
    environment: dict[str, str],
    clock: Stopwatch,
    weights: set[str],
    kept_runs: Counter[str],
) -> None:
    """One training in a folder of its own, as a stage of `switchback run` does it."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(dir=folder) as root, contextlib.chdir(root):
        os.environ.update(environment)
        try:
            with tracking(END), clock.running():
                train(params, SEED, folder / "data", RECORD)
        finally:
            os.environ.clear()
            os.environ.update(before)
        weights.add(file_digest(open_record(RECORD).weights))
        entry = kept.read().runs.get(RECORD.name)
        if entry is not None and entry.state:
            kept_runs[name] += 1
