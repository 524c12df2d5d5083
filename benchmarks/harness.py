"""Interleaved timing, paired ratios, and the form in which results are kept.

Machines are noisy, and slowly so: two arms are comparable only when they take turns within seconds. A round gives every
arm the same number of steps in short blocks, in an order drawn anew for each turn; one round yields one ratio per arm.
"""

import contextlib
import gc
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent

Steps = Generator[None, None, None]
"""One unit of work per `next`; ends its arm when closed."""


class Arm(NamedTuple):
    """One of the things compared."""

    name: str
    steps: Steps
    against: str = "bare"
    """Arm whose time is the denominator of this arm's ratio; its own name for none."""


class Rounds(NamedTuple):
    """How long to measure."""

    rounds: int
    """Ratios per arm."""
    turns: int
    """Blocks per arm and round."""
    block: int
    """Steps per block. Rare work inside an arm should fall equally often into each round of turns · block steps."""
    warmup: int
    """Steps of each arm before the first round."""


@dataclass(kw_only=True)
class Result:
    """One benchmark on one machine; the JSON form is the dataclass."""

    name: str
    command: str
    settings: dict[str, Any]
    unit: str
    """Of the figures in `arms`."""
    device: str = "cpu"
    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    """Per arm: median, q1, q3, n."""
    ratios: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per arm: against, median of the paired ratios, low and high of the bootstrapped 95 % interval, n."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Whatever is neither a duration nor a ratio: kills survived, quality reached, arms left out."""
    commit: str = ""
    dirty: bool = False
    date: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    def add(self, arms: Sequence[Arm], seconds: dict[str, list[float]], scale: float = 1.0) -> None:
        """Summarise the rounds of `interleave`; an arm that is already there keeps its first figures.

        Args:
            arms: what was compared.
            seconds: per arm, one figure per round.
            scale: what one second is in `unit`.
        """
        for arm in arms:
            if arm.name in self.arms:
                continue
            self.arms[arm.name] = summary([value * scale for value in seconds[arm.name]])
            if arm.against != arm.name:
                ratio = paired_ratio(seconds[arm.name], seconds[arm.against])
                self.ratios[arm.name] = {"against": arm.against, **ratio}

    def write(self, folder: Path) -> Path:
        """Write `<name>-<cpu|gpu>.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{self.device}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


def interleave(
    arms: Sequence[Arm],
    plan: Rounds,
    *,
    seed: int = 0,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Let the arms take turns; seconds per step of each arm, one figure per round.

    Args:
        arms: what to compare.
        plan: how long.
        seed: of the order of turns.
        synchronize: waits until the device is idle; called at both ends of a block.
        clock: seconds.
    """
    shuffled = random.Random(seed)
    for arm in arms:
        advance(arm, plan.warmup)
    gc.collect()
    gc.freeze()  # otherwise each collection walks the objects of all arms, in whosever turn it happens to fall
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(plan.rounds):
        spent = dict.fromkeys(seconds, 0.0)
        for _ in range(plan.turns):
            for arm in shuffled.sample(arms, len(arms)):
                synchronize()
                start = clock()
                advance(arm, plan.block)
                synchronize()
                spent[arm.name] += clock() - start
        for name, total in spent.items():
            seconds[name].append(total / (plan.turns * plan.block))
    gc.unfreeze()
    return seconds


def advance(arm: Arm, steps: int) -> None:
    """Let one arm do `steps` steps."""
    for _ in range(steps):
        next(arm.steps)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and count."""
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3), "n": len(values)}


def paired_ratio(values: Sequence[float], baseline: Sequence[float], resamples: int = 4000) -> dict[str, float]:
    """Median of the per-round ratios, with the percentile-bootstrap 95 % interval of that median."""
    ratios = np.asarray(values) / np.asarray(baseline)
    drawn = np.random.default_rng(0).choice(ratios, (resamples, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high), "n": len(ratios)}


@contextlib.contextmanager
def measuring(
    name: str, command: str, settings: dict[str, Any], unit: str, *, device: str = "cpu", threads: int = 1
) -> Iterator[Result]:
    """A result to fill; notes commit, date, machine, and how busy others kept the machine meanwhile."""
    from ci_tools.repro.fingerprint import capture

    result = Result(name=name, command=command, settings=settings, unit=unit, device=device)
    result.commit, result.dirty = _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--untracked-files=no"))
    result.date = datetime.now(UTC).isoformat(timespec="seconds")
    result.machine = {
        "fingerprint": capture(threads),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": [round(x, 2) for x in os.getloadavg()],
    }
    start, all_before, own_before = time.perf_counter(), _busy_seconds(), _own_seconds()
    yield result
    others = (_busy_seconds() - all_before) - (_own_seconds() - own_before)
    result.machine["cores_used_by_others"] = round(max(others, 0.0) / (time.perf_counter() - start), 2)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own_seconds() -> float:
    """CPU time of this process and of its children, those still running included."""
    me = psutil.Process()
    own = me.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = child.cpu_times()
            total += used.user + used.system
    return float(total)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines that a stopped campaign left; the last may be torn, and is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]
