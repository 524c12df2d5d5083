"""What live tracking costs the process that trains, in two ways.

Steps: two trainings in one process take turns in blocks of a few steps, one of them followed by a tracker. The tracker
is stopped (SIGSTOP) while the other has its turn, so that its clock goes only while its own training's does; blocks
that lie within seconds of each other tell a difference of a fraction of a percent. Start and end are not part of it.
Beside the time stands what the system says of its cause: how long training's threads were ready and waited for a core,
all of them together, so that the step is later by no more than the difference.

Whole runs: `model.train.train`, without imports and without preparing the data. The run begins once the tracker has
started W&B's own process: in `switchback run`, DVC, the stage of the data and the imports of training lie between the
two. The tracker is told to end after the run, and its end is not part of the figure. Processor seconds of the tracker
and its children while the run trained are told beside it: they do not depend on what else the machine does.
"""

import contextlib
import os
import signal
import socket
import tempfile
import time
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter

import psutil
import torch

from benchmarks.harness import Arm, Result, Rounds, Steps, interleave, measuring, summary
from benchmarks.reference import recorded_steps, samples, shipped_params
from benchmarks.train import SEED, small_params
from ci_tools.record import open_record
from ci_tools.report.track import kept
from ci_tools.report.track.beside import KEY, tracking
from ci_tools.repro.determinism import make_deterministic
from ci_tools.repro.manifest import file_digest
from model.data import prepare
from model.params import Params
from model.train import train

FULL = Rounds(rounds=40, turns=20, block=1, warmup=5), Rounds(rounds=8, turns=1, block=1, warmup=1)
QUICK = Rounds(rounds=3, turns=2, block=1, warmup=2), Rounds(rounds=1, turns=1, block=1, warmup=0)
BLOCK = 20
"""Steps per turn. A round has 400: the recorder hands rows over, and the tracker takes them, every few seconds."""
RECORD = Path("runs/seed-1")
START, END = 180.0, 60.0
"""Seconds that a tracker may take to begin, and to end."""
CORE = "wandb-core"
"""Name of W&B's own process. The tracker's first child is a git, which it asks for a moment before."""


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


def waited() -> float:
    """Seconds so far that the threads of this process were ready to run and had no core, by Linux's schedstat."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            total += int(path.read_text().split()[1])
    return total / 1e9


class Tracker:
    """The process beside a run, and those that it started."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def all(self) -> list[psutil.Process]:
        """The process and its children at this moment."""
        return [self._process, *self._process.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        """One signal to each."""
        for process in self.all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def begun(self) -> float:
        """Wait until W&B's own process is there; returns the processor seconds that took."""
        _until(lambda: CORE in self._names(), partial(time.sleep, 0.1))
        return self.processor_seconds()

    def _names(self) -> set[str]:
        names = set()
        for process in self.all():
            with contextlib.suppress(psutil.NoSuchProcess):
                names.add(process.name())
        return names

    def processor_seconds(self) -> float:
        """Of all of them so far, those that have ended included."""
        total = 0.0
        for process in self.all():
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return total


def main(options: Namespace) -> Result:
    """Steps alone and tracked; then runs alone, tracked, and with a server that takes calls and never answers."""
    of_steps, of_runs = QUICK if options.quick else FULL
    if options.rounds:
        of_steps, of_runs = of_steps._replace(rounds=4 * options.rounds), of_runs._replace(rounds=options.rounds)
    params = small_params(transactions=60_000, steps=40) if options.quick else shipped_params()
    make_deterministic(params.train.threads)
    settings = {"network": params.network.model_dump(), "train": params.train.model_dump(mode="json")}
    settings |= {"steps per block": BLOCK, "blocks": of_steps._asdict(), "whole runs": of_runs._asdict()}
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("tracking", options.command, settings, "ms per step", threads=params.train.threads) as result,
    ):
        _measure_steps(params, Path(scratch), of_steps, result)
        _measure_runs(params, Path(scratch), of_runs, result)
    return result


def _measure_steps(params: Params, scratch: Path, plan: Rounds, result: Result) -> None:
    clock, rows = Stopwatch(), samples(torch.device("cpu"))
    alone, tracked = scratch / "alone", scratch / "tracked"
    spent: list[float] = []
    waits: dict[str, list[float]] = {"step alone": [], "step tracked": []}
    steps = recorded_steps(params, rows, alone, probes=True)
    arms = [
        Arm("step alone", _blocks(steps, clock, waits["step alone"]), "step alone"),
        Arm("step tracked", _tracked_blocks(params, tracked, clock, spent, waits["step tracked"]), "step alone"),
    ]
    result.add(arms, interleave(arms, plan, clock=clock), scale=1e3 / BLOCK)
    for arm in arms:
        arm.steps.close()
    per_step = (spent[-1] - spent[0]) / (len(spent) - 1) / BLOCK
    result.facts["processor ms of the tracker per step"] = 1e3 * per_step
    for name, seconds in waits.items():
        result.facts[f"ms per {name} that training's threads waited for a core"] = 1e3 * fmean(seconds) / BLOCK


def _blocks(steps: Steps, clock: Stopwatch, waits: list[float]) -> Steps:
    """Blocks of steps; `waits` takes what `waited` says of each."""
    with contextlib.closing(steps):
        while True:
            before = waited()
            with clock.running():
                for _ in range(BLOCK):
                    next(steps)
            waits.append(waited() - before)
            yield


def _tracked_blocks(params: Params, root: Path, clock: Stopwatch, spent: list[float], waits: list[float]) -> Steps:
    """Blocks beside a tracker that goes only meanwhile; `spent` takes its processor seconds after each block."""
    root.mkdir()
    rows = samples(torch.device("cpu"))
    with _beside(root, {"WANDB_MODE": "offline"}) as tracker:
        if tracker is None:
            raise RuntimeError("no tracker was started")
        steps = recorded_steps(params, rows, root / RECORD, probes=True)
        with contextlib.closing(steps):
            blocks = _blocks(steps, clock, waits)
            _train_until_it_is_told(blocks, root)
            waits.clear()
            try:
                while True:
                    tracker.send(signal.SIGSTOP)
                    spent.append(tracker.processor_seconds())
                    yield
                    tracker.send(signal.SIGCONT)
                    next(blocks)
            finally:
                tracker.send(signal.SIGCONT)


def _train_until_it_is_told(blocks: Steps, root: Path) -> None:
    """The recorder hands over its first rows after some blocks, and the tracker needs a moment to begin."""
    _until(lambda: any(root.glob("wandb/offline-run-*/run-*.wandb")), partial(next, blocks))


def _until(begun: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    """Do something else until the tracker has begun."""
    deadline = time.monotonic() + START
    while not begun():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the tracker did not begin within {START:g} s")
        meanwhile()


def _measure_runs(params: Params, scratch: Path, plan: Rounds, result: Result) -> None:
    clock = Stopwatch()
    prepare(params.data, scratch / "data")
    weights: set[str] = set()
    kept_runs: Counter[str] = Counter()
    spent: defaultdict[str, list[float]] = defaultdict(list)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environments: dict[str, dict[str, str]] = {
            "run alone": {},
            "run tracked": {"WANDB_MODE": "offline"},
            "run tracked, server silent": {"WANDB_MODE": "online", KEY: "0" * 40, "WANDB_BASE_URL": address},
        }
        arms = [
            Arm(name, _runs(partial(_run, params, scratch, name, given, clock, weights, kept_runs, spent)), "run alone")
            for name, given in environments.items()
        ]
        result.add(arms, interleave(arms, plan, clock=clock), scale=1e3 / params.train.steps)
    result.facts["different weights over all runs"] = len(weights)
    result.facts["runs whose every step was kept for W&B"] = dict(kept_runs)
    for name, seconds in spent.items():
        result.facts[f"processor s of {name}"] = summary(seconds)


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
    spent: defaultdict[str, list[float]],
) -> None:
    """One training in a folder of its own, as a stage of `switchback run` does it."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        record = Path(root) / RECORD
        with _beside(Path(root), environment) as tracker:
            begun = tracker.begun() if tracker is not None else 0.0
            own = time.process_time()
            with clock.running():
                train(params, SEED, folder / "data", record)
            spent[f"training, {name}"].append(time.process_time() - own)
            if tracker is not None:
                spent[f"the tracker, {name}"].append(tracker.processor_seconds() - begun)
        weights.add(file_digest(open_record(record).weights))
        entry = kept.read(Path(root)).runs.get(record.name)
        if entry is not None and entry.state:
            kept_runs[name] += 1


@contextlib.contextmanager
def _beside(root: Path, environment: dict[str, str]) -> Iterator[Tracker | None]:
    """Tracking of what is trained below `root`, as `switchback run` starts it there in an environment."""
    before = dict(os.environ)
    with contextlib.chdir(root):
        os.environ.update(environment)
        try:
            with tracking(END) as process:
                yield None if process is None else Tracker(process.pid)
        finally:
            os.environ.clear()
            os.environ.update(before)
