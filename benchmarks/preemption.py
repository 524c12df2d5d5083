"""A runner is taken away from a training job, and another goes on: the same bits, and no step twice for nothing.

The job is `switchback reproduce` in a clone of a small project whose training writes down every step that it executes.
What goes from one runner to the next is what the workflow keeps, and nothing else.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.harness import ROOT, Result, measuring, summary
from ci_tools.errors import PREEMPTED, SwitchbackError
from ci_tools.record.reader import open_record
from ci_tools.record.schema import CHECKPOINTS
from ci_tools.repro.compare import compare
from ci_tools.repro.manifest import checkpoint_step, file_digest, list_checkpoints

STEPS, EVERY, SEEDS = 60, 10, (1, 2)
KEPT = (".dvc/cache", "dvc.lock", "runs")
"""What .github/workflows/_experiment.yml uploads when training ends early, and takes before it is tried again."""
DRAINED = "drained: the training is told, and the job saves what is left"
CUT_SHORT = "cut short: told, and killed with everything at once"
KILLED = "killed: nobody is told, the disk survives"
KINDS = (DRAINED, CUT_SHORT, KILLED)
PATIENCE = 120.0
"""Seconds after which a job counts as hung."""
LOG = "STEPS_LOG"
DVC_YAML = f"""\
stages:
  train:
    matrix:
      seed: {list(SEEDS)}
    cmd: python train.py ${{item.seed}}
    deps: [train.py]
    outs:
      - runs/seed-${{item.seed}}
"""
TRAIN_PY = f"""\
import os, sys, time
import torch
from ci_tools.record import Recorder, SeededBatches, SeededLoader
from typing import NamedTuple

class Rows(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor

seed = int(sys.argv[1])
log = os.open(os.environ["{LOG}"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Recorder(f"runs/seed-{{seed}}", params={{"lr": 1e-2}}, seed=seed, checkpoint_every={EVERY}) as run:
    x = torch.randn(256, 8)
    rows = Rows(x, x[:, :1].sin())
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.1), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    run.watch(model, optimizer)
    for step, batch in run.steps(SeededLoader(rows, SeededBatches(256, 32, seed=seed)), total={STEPS}):
        os.write(log, f"{{seed}} {{step}}\\n".encode())
        loss = torch.nn.functional.mse_loss(model(batch.x), batch.y)
        loss.backward()
        run.record(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        time.sleep(0.02)
    run.finish({{"loss": loss.item()}})
"""
FILES = {"dvc.yaml": DVC_YAML, "train.py": TRAIN_PY, "params.yaml": "{}\n", ".gitignore": "/runs/\n"}
# A job's step as a runner starts it; in `sh`, as below the runner's own process.
WORKER = "bash -e .git/step.sh; exit $?\n"
STEP = "switchback reproduce\n"


class Case(NamedTuple):
    """One training job that was taken away and tried again."""

    kind: str
    """One of `KINDS`."""
    steps: int
    """Executed by the first runner."""
    safe: int
    """Of them, in the newest checkpoints that it left."""
    repeated: int
    """Executed by both."""
    needless: int
    """Of these, how many stood in a checkpoint."""
    seconds: float
    """Of the second runner."""
    problem: str
    """Empty when the result is identical to that of an uninterrupted job."""


def main(options: Namespace) -> Result:
    """Take runners away at random steps, in turns of `KINDS`; as many at a time as there are cores."""
    count = options.count or (3 if options.quick else 12)
    settings = {"count": count, "steps": STEPS, "checkpoint_every": EVERY, "seeds": list(SEEDS)}
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("preemption", options.command, settings, "s until the second runner is done") as result,
    ):
        project = Project(Path(scratch))
        chance = random.Random(0)
        last = len(SEEDS) * STEPS - EVERY
        kinds = [KINDS[number % len(KINDS)] for number in range(count)]
        steps = [chance.randint(1, last) for _ in range(count)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            cases = list(pool.map(project.preempt, kinds, steps))
        for kind in KINDS:
            if seconds := [case.seconds for case in cases if case.kind == kind]:
                result.arms[kind.partition(":")[0]] = summary(seconds)
        result.facts = {
            "runners taken away": dict(Counter(case.kind for case in cases)),
            "bit-identical": sum(not case.problem for case in cases),
            "steps executed by the first runners": sum(case.steps for case in cases),
            "most steps executed twice": {
                kind.partition(":")[0]: max((case.repeated for case in cases if case.kind == kind), default=0)
                for kind in KINDS
            },
            "steps executed twice that stood in a checkpoint": sum(
                case.repeated - (case.steps - case.safe) for case in cases
            ),
            "failed": [case.problem for case in cases if case.problem],
        }
    return result


class Project:
    """A repository, the result of an uninterrupted job in it, and jobs that are not as lucky.

    Args:
        folder: where everything is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._origin = folder / "origin"
        self._origin.mkdir()
        for name, text in FILES.items():
            (self._origin / name).write_text(text, encoding="utf-8")
        shutil.copytree(ROOT / ".dvc", self._origin / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=start")):
            _git(self._origin, *words)
        self.reference = self._fresh()
        self._finish(self.reference)

    def preempt(self, kind: str, step: int) -> Case:
        """Start a job, take its runner away behind `step` steps, try again on a fresh runner, compare.

        Args:
            kind: how, of `KINDS`.
            step: counted over all seeds.
        """
        first = self._fresh()
        job = self._start(first)
        _wait_for(lambda: len(executed(first)) > step or job.poll() is not None)
        problem = self._take_away(job, kind)
        before = executed(first)
        safe = sum(map(checkpointed, records(first)))
        second = self._fresh()
        hand_over(first, second)
        begun = time.perf_counter()
        try:
            self._finish(second)
            problem = problem or difference(self.reference, second)
        except SwitchbackError as error:
            problem = problem or str(error)
        after = executed(second)
        whole = {(seed, number) for seed in SEEDS for number in range(STEPS)}
        if {*before, *after} != whole and not problem:
            problem = f"{len(whole - {*before, *after})} steps were executed by nobody"
        repeated = len(before) + len(after) - len({*before, *after})
        needless = max(repeated - (len(before) - safe), 0)
        if needless and not problem:
            problem = f"{needless} steps that stood in a checkpoint were executed again"
        problem = f"{kind.partition(':')[0]} behind step {step}: {problem}" if problem else ""
        return Case(kind, len(before), safe, repeated, needless, time.perf_counter() - begun, problem)

    def _fresh(self) -> Path:
        workspace = Path(tempfile.mkdtemp(prefix="job-", dir=self._folder))
        _git(self._folder, "clone", "--quiet", str(self._origin), str(workspace))
        for name, text in {"Runner.Worker": WORKER, "step.sh": STEP}.items():
            (workspace / ".git" / name).write_text(text, encoding="utf-8")
        return workspace

    def _start(self, workspace: Path) -> subprocess.Popen[str]:
        """The tree of a runner: its own process, its worker, the shell of the step, the step."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        settings = {"PATH": path, "PYTHONPATH": str(ROOT), LOG: str(workspace / ".git/steps")}
        runner = "sh .git/Runner.Worker; exit $?"
        return subprocess.Popen(
            ["sh", "-c", runner], cwd=workspace, env=os.environ | settings, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def _finish(self, workspace: Path) -> None:
        job = self._start(workspace)
        code, said = _end(job)
        if code:
            raise SwitchbackError(f"exit {code}: {said}", where="switchback reproduce")

    def _take_away(self, job: subprocess.Popen[str], kind: str) -> str:
        """What went wrong while the runner went; empty where nothing did."""
        if kind == DRAINED:
            subprocess.run(["sh", ROOT / "deploy/runners/drain", str(job.pid)], timeout=PATIENCE, check=True)
            code, said = _end(job)
            return "" if code == PREEMPTED else f"exit {code}: {said}"
        family = [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]
        for number in (signal.SIGTERM, signal.SIGKILL) if kind == CUT_SHORT else (signal.SIGKILL,):
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        psutil.wait_procs(family, timeout=PATIENCE)
        _end(job)
        return ""


def hand_over(first: Path, second: Path) -> None:
    """Put what one runner kept into the clone of the next; the rest is lost with its machine."""
    for name in KEPT:
        if (first / name).is_dir():
            shutil.copytree(first / name, second / name)
        elif (first / name).exists():
            shutil.copy(first / name, second / name)


def executed(workspace: Path) -> list[tuple[int, int]]:
    """(seed, step) of every step of a job, as the training itself wrote them down; a torn last line is none."""
    log = workspace / ".git/steps"
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0] if log.exists() else ""
    return [(int(seed), int(step)) for seed, step in map(str.split, whole.splitlines())]


def records(workspace: Path) -> list[Path]:
    """The records that a job left."""
    return [path for seed in SEEDS if (path := workspace / "runs" / f"seed-{seed}").exists()]


def checkpointed(record: Path) -> int:
    """Steps that nobody need do again."""
    return max(map(checkpoint_step, list_checkpoints(record / CHECKPOINTS)), default=0)


def difference(a: Path, b: Path) -> str:
    """The first difference of the records of two jobs, in words; empty where they agree bit by bit."""
    for one, other in zip(records(a), records(b), strict=True):
        comparison = compare(one, other)
        if not comparison.identical:
            return comparison.sentence()
        weights = [open_record(path).checkpoints[-1] / "model.safetensors" for path in (one, other)]
        if len({file_digest(path) for path in weights}) > 1:
            return f"{one.name}: the final weights differ"
    return ""


def _end(job: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, said = job.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        raise SwitchbackError(f"no end after {PATIENCE:.0f} s", where="switchback reproduce") from None
    return job.returncode, (said.strip().splitlines() or ["no message"])[-1]


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.005)


def _git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)
