"""Every cell of traffic, shown to every rule; one JSON line per piece of work, so that a stop loses little."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import read_lines
from benchmarks.judge import oracle, rivals, traffic
from benchmarks.judge.ours import Judge, Times, policy
from benchmarks.judge.traffic import Cell
from ci_tools.config import digest
from ci_tools.console import progress
from ci_tools.errors import DataError
from ci_tools.repro.manifest import file_digest

ALPHAS, BETA = (0.05, 0.01), 0.05
"""Of the judge: once as of the z-test, once as the shipped policy has it."""
ORACLE_ALPHA = 0.01
SEED = 20_000
"""Of all traffic; lower ones served while the tests were written."""
PIECE = 200
"""Releases simulated at once."""
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many releases of each sort."""

    no_difference: int
    """Where nothing must be rolled back, or the canary is as bad as a margin."""
    difference: int
    """Elsewhere."""
    oracle: int
    """Per ratio and share."""

    def runs(self, cell: Cell) -> int:
        """Of one cell."""
        return self.no_difference if cell.truth in ("none", *AT_MARGIN) else self.difference


AT_MARGIN = ("x1.5", "+25 %")
"""Truths that are as bad as the shipped margins."""
FULL = Plan(no_difference=1000, difference=400, oracle=400)
QUICK = Plan(no_difference=40, difference=20, oracle=20)


def run(plan: Plan, path: Path, workers: int) -> list[Line]:
    """Do all work of the plan that `path` does not hold yet; all its lines.

    Raises:
        DataError: other code made the lines that are there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, code = read_lines(path), code_digest()
    if any(line["code"] != code for line in lines):
        raise DataError("holds figures that other code made", where=path, fix="delete it")
    done = {(line["what"], line["piece"]) for line in lines}
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a worker starts
    with path.open("a", encoding="utf-8") as file, ProcessPoolExecutor(workers) as pool:
        pending = [pool.submit(job.do, job) for job in jobs(plan) if (job.what, job.piece) not in done]
        with progress(len(pending), "pieces of traffic") as bar:
            for count, found in enumerate(as_completed(pending), start=1):
                line = found.result() | {"code": code}
                file.write(json.dumps(line) + "\n")
                file.flush()
                lines.append(line)
                bar.update(count)
    return lines


class Job(NamedTuple):
    """One piece of work."""

    do: Callable[["Job"], Line]
    what: str
    piece: int
    runs: int
    cell: Cell | None = None
    ratio: float = 0.0
    share: float = 0.0


def jobs(plan: Plan) -> list[Job]:
    """All work, the slow pieces first."""
    found = []
    for cell in sorted(traffic.cells(), key=lambda one: (-one.per_minute, one.kind)):
        total = plan.runs(cell)
        pieces = enumerate(range(0, total, PIECE))
        found += [Job(judge_cell, cell.name, piece, min(PIECE, total - start), cell) for piece, start in pieces]
    return found + [
        Job(judge_oracle, f"oracle {ratio} {share}", 0, plan.oracle, ratio=ratio, share=share)
        for ratio in oracle.RATIOS for share in oracle.SHARES
    ]  # fmt: skip


def judge_cell(job: Job) -> Line:
    """Show one piece of a cell to all rules."""
    cell, runs = job.cell, job.runs
    assert cell is not None
    judge, recorder = Judge([policy(cell, alpha, BETA) for alpha in ALPHAS], runs), rivals.Recorder(runs)
    for one in traffic.bins(cell, runs, SEED + job.piece):
        judge.see(one)
        recorder.see(one)
    found = {f"Switchback at {alpha:.0%}": times for alpha, times in zip(ALPHAS, judge.whole, strict=True)}
    found |= {"coin alone": judge.coin, "robust alone": judge.robust}
    found |= rivals.times(recorder.minutes(), cell.kind)
    fired = float(np.mean([one.fired.mean() for one in judge.wealth.values()]))
    rules = {name: _plain(times) for name, times in found.items()}
    return {"what": cell.name, "piece": job.piece, "runs": runs, "rules": rules, "fired": fired}


def judge_oracle(job: Job) -> Line:
    """Measure the delay of the event test for one ratio and share."""
    delays = oracle.delays(job.ratio, job.share, ORACLE_ALPHA, job.runs, SEED)
    return {"what": job.what, "piece": job.piece, "runs": job.runs, "delays": [_or_none(x) for x in delays]}


def code_digest() -> str:
    """Of the judge and of this benchmark."""
    import ci_tools.release.judge as judged

    files = [path for module in (judged, traffic) for path in Path(str(module.__file__)).parent.glob("*.py")]
    return digest({f"{path.parent.name}/{path.name}": file_digest(path) for path in files})


def _plain(times: Times) -> dict[str, list[float | None]]:
    return {name: [_or_none(x) for x in minutes] for name, minutes in times._asdict().items()}


def _or_none(value: float) -> float | None:
    """As JSON; None for never."""
    return round(float(value), 3) if np.isfinite(value) else None
