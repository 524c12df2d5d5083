"""Every cell of traffic, shown to every rule; one JSON line per piece of work, so that a stop loses little."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judge import oracle, rivals, traffic
from benchmarks.judge.ours import Judge, Times, policy
from benchmarks.judge.traffic import Cell
from ci_tools.config import digest
from ci_tools.console import progress
from ci_tools.errors import DataError
from ci_tools.repro.manifest import file_digest

ALPHA, BETA = 0.05, 0.05
"""Of the judge in the table, as of the z-test; the shipped policy's α is measured in the cells without difference."""
SHIPPED_ALPHA = 0.01
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
    lines, code = read(path), code_digest()
    if any(line["code"] != code for line in lines):
        raise DataError("holds figures that other code made", where=path, fix="delete it")
    done = {(line["what"], line["piece"]) for line in lines}
    os.environ["OMP_NUM_THREADS"] = "1"
    with path.open("a", encoding="utf-8") as file, ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(*job) for job in work(plan) if (job[1] if isinstance(job[1], str) else job[1].name,
                                                            job[2]) not in done]  # fmt: skip
        with progress("releases", len(jobs)) as advance:
            for job in as_completed(jobs):
                line = job.result() | {"code": code}
                file.write(json.dumps(line) + "\n")
                file.flush()
                lines.append(line)
                advance()
    return lines


def work(plan: Plan) -> Iterable[tuple[Any, ...]]:
    """Calls to make; the slow ones first."""
    cells = sorted(traffic.cells(), key=lambda cell: (-cell.per_minute, cell.kind))
    for cell in cells:
        total = plan.runs(cell)
        yield from ((judge_cell, cell, piece, min(PIECE, total - start)) for piece, start in
                    enumerate(range(0, total, PIECE)))  # fmt: skip
    for ratio in oracle.RATIOS:
        for share in oracle.SHARES:
            yield (judge_oracle, f"oracle {ratio} {share}", 0, ratio, share, plan.oracle)


def judge_cell(cell: Cell, piece: int, runs: int) -> Line:
    """Show one piece of a cell to all rules."""
    judge, shipped, recorder = (
        Judge(policy(cell, ALPHA, BETA), runs), Judge(policy(cell, SHIPPED_ALPHA, BETA), runs), rivals.Recorder(runs)
    )  # fmt: skip
    both = (judge, shipped) if cell.truth == "none" else (judge,)
    for one in traffic.bins(cell, runs, SEED + piece):
        for watcher in (*both, recorder):
            watcher.see(one)
    found = {"Switchback": judge.whole, "coin alone": judge.coin, "robust alone": judge.robust}
    if cell.truth == "none":
        found["Switchback, α 1 %"] = shipped.whole
    found |= rivals.times(recorder.minutes(), cell.kind)
    fired = float(np.mean([one.fired.mean() for one in judge.wealth.values()]))
    rules = {name: _plain(times) for name, times in found.items()}
    return {"what": cell.name, "piece": piece, "runs": runs, "rules": rules, "fired": fired}


def judge_oracle(what: str, piece: int, ratio: float, share: float, runs: int) -> Line:
    """Measure the delay of the event test for one ratio and share."""
    delays = oracle.delays(ratio, share, ALPHA / 5, runs, SEED)
    return {"what": what, "piece": piece, "runs": runs, "delays": delays.round(3).tolist()}


def read(path: Path) -> list[Line]:
    """The lines that are there; the last may be torn, and is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]


def code_digest() -> str:
    """Of the judge and of this benchmark."""
    import ci_tools.release.judge as judged

    files = [path for module in (judged, traffic) for path in Path(str(module.__file__)).parent.glob("*.py")]
    return digest({f"{path.parent.name}/{path.name}": file_digest(path) for path in files})


def _plain(times: Times) -> dict[str, list[float | None]]:
    """Minutes as JSON; None for never."""
    return {name: [round(float(x), 3) if np.isfinite(x) else None for x in minutes]
            for name, minutes in times._asdict().items()}  # fmt: skip
