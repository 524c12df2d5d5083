"""SIGKILL at random instants of the real command line; each run is resumed to its end and compared bit by bit."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML

from benchmarks.harness import ROOT, Result, measuring, summary
from ci_tools.config import validate
from ci_tools.errors import SwitchbackError
from ci_tools.record.schema import CHECKPOINTS, META
from ci_tools.repro.compare import compare
from ci_tools.repro.manifest import checkpoint_step, list_checkpoints
from model.data import prepare
from model.params import Params

STEPS = 300
TINY = {
    "seeds": [1],
    "data": {"simulated": {"transactions": 4000, "customers": 200, "terminals": 100, "fraud_rate": 0.05}},
    "network": {"width": 16, "blocks": 1, "embedding": 2},
    "train": {
        "steps": STEPS,
        "batch_size": 64,
        "warmup": 10,
        "evaluate_every": 30,
        "checkpoint_every": 10,
        "probe_every": 25,
        "device": "cpu",
        "threads": 1,
    },
}
EARLY = 0.1
"""Share of kills aimed at the time before the record exists, while the process starts."""
LATEST = 1.3
"""Latest kill over the length of an undisturbed run; above 1, since runs beside each other take longer."""
TOO_LATE = "after the record was closed"
"""There is nothing left to resume then, so such a kill does not count and is drawn again."""
PATIENCE = 120.0
"""Seconds after which a training process counts as hung."""


class Case(NamedTuple):
    """One killed and resumed run."""

    instant: str
    """Where the kill fell."""
    steps: int
    """Steps that stood in checkpoints then."""
    seconds: float
    """From the first start to the resumed end."""
    problem: str
    """Empty when the resumed run is identical to the uninterrupted one."""


def main(options: Namespace) -> Result:
    """Kill, resume, compare; as many at a time as there are cores, since that shifts the instants further."""
    count = options.count or (12 if options.quick else 200)
    params = validate(TINY, Params, where="benchmarks/kill.py")
    settings = {"count": count, "params": TINY}
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("kill", options.command, settings, "s per kill and resume") as result,
    ):
        folder = Path(scratch)
        YAML().dump(TINY, folder / "params.yaml")
        prepare(params.data, folder / "data")
        for package in ("ci_tools", "model"):  # edits made meanwhile must not reach the runs
            shutil.copytree(ROOT / package, folder / package)
        startup, length = _timed_reference(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            cases = list(pool.map(lambda number: kill(folder, number, startup, length), range(count)))
        result.arms["kill, resume, finish"] = summary([case.seconds for case in cases])
        result.facts = {
            "kills": count,
            "bit-identical": sum(not case.problem for case in cases),
            "instants": dict(Counter(case.instant for case in cases).most_common()),
            "checkpointed steps at the kill (min, quartiles, max)": _spread([case.steps for case in cases]),
            "failed": [case.problem for case in cases if case.problem],
        }
    return result


def kill(folder: Path, number: int, startup: float, length: float) -> Case:
    """Start a run, kill it at a random instant, resume it, compare it with the reference."""
    chance, name, begun = random.Random(number), f"run-{number}", time.perf_counter()
    record = folder / name
    instant = TOO_LATE
    while instant == TOO_LATE:
        _remove(record)
        process = train(folder, name)
        if chance.random() < EARLY:
            time.sleep(chance.uniform(0, startup))
        else:
            _wait_for((record / META).exists, process)
            time.sleep(chance.uniform(0, LATEST * length))
        process.kill()
        process.communicate()
        instant = _instant(record)
    checkpoints = list_checkpoints(record / CHECKPOINTS) if record.exists() else []
    steps = max(map(checkpoint_step, checkpoints), default=0)
    try:
        finish(train(folder, name))
        comparison = compare(folder / "reference", record)
        problem = "" if comparison.identical else comparison.sentence()
    except SwitchbackError as error:
        problem = str(error)
    if problem:
        problem = f"kill {number} ({instant}): {problem}".replace(str(folder), "…")
    else:
        _remove(record)
    return Case(instant, steps, time.perf_counter() - begun, problem)


def train(folder: Path, name: str) -> subprocess.Popen[str]:
    """The command line under test."""
    options = {"--seed": "1", "--params": folder / "params.yaml", "--data": folder / "data", "--record": folder / name}
    words = [str(word) for pair in options.items() for word in pair]
    return subprocess.Popen(
        [sys.executable, "-m", "model.train", *words], cwd=folder, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a run.

    Raises:
        SwitchbackError: it hung or failed.
    """
    try:
        _, messages = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SwitchbackError(f"no end after {PATIENCE:.0f} s", where="python -m model.train") from None
    if process.returncode:
        last = (messages.strip().splitlines() or ["no message"])[-1]
        raise SwitchbackError(f"exit {process.returncode}: {last}", where="python -m model.train")


def _timed_reference(folder: Path) -> tuple[float, float]:
    """Run without a kill; seconds before the record's first file, and from there to its last."""
    start = time.perf_counter()
    process, meta = train(folder, "reference"), folder / "reference" / META
    _wait_for(meta.exists, process)
    startup = time.perf_counter() - start
    _wait_for(lambda: _closed(meta), process)
    length = time.perf_counter() - start - startup
    finish(process)
    return startup, length


def _closed(meta: Path) -> bool:
    return bool(json.loads(meta.read_text(encoding="utf-8"))["status"] == "finished")


def _wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened() and process.poll() is None:
        time.sleep(0.001)


def _instant(record: Path) -> str:
    """Where a run was killed, from what it left behind."""
    checkpoints = record / CHECKPOINTS
    if not (record / META).exists():
        return "before the record"
    if _closed(record / META):
        return TOO_LATE
    if any(checkpoints.glob(".step-*.new")):
        return "during a checkpoint's write"
    if any(checkpoints.glob(".step-*.old")):
        return "during a checkpoint's deletion"
    steps = [checkpoint_step(path) for path in list_checkpoints(checkpoints)]
    if not steps:
        return "before the first checkpoint"
    return "while finishing" if max(steps) == STEPS else "between two checkpoints"


def _remove(record: Path) -> None:
    shutil.rmtree(record, ignore_errors=True)
    record.with_name(f".{record.name}.lock").unlink(missing_ok=True)


def _spread(values: list[int]) -> list[float]:
    return [float(x) for x in np.percentile(values, [0, 25, 50, 75, 100])] if values else []
