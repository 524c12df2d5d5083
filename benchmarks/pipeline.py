"""Seconds a person waits: a cold `switchback run` in a fresh clone, one with nothing changed, and the help text."""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path

from benchmarks.harness import ROOT, Result, measuring, summary
from benchmarks.reference import shipped_params
from ci_tools.errors import SwitchbackError

SMALL = ("train.steps=60", "train.warmup=10", "seeds=[1]", "data.simulated.transactions=20000")


def main(options: Namespace) -> Result:
    """The clone holds what is committed; the environment is the one that runs this."""
    changed = SMALL if options.quick else ()
    settings = {"seeds": list(shipped_params().seeds), "set": list(changed)}
    repeats = options.rounds or (1 if options.quick else 5)
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("pipeline", options.command, settings, "s", threads=shipped_params().train.threads) as result,
    ):
        clone = Path(scratch, "clone")
        _timed(["git", "clone", "--quiet", str(ROOT), str(clone)], cwd=ROOT)
        changes = [word for setting in changed for word in ("--set", setting)]
        commands = {
            "switchback run, cold": ([*switchback(), "run", *changes], 1),
            "switchback run, nothing changed": ([*switchback(), "run", "--json"], repeats),
            "switchback --help": ([*switchback(), "--help"], 2 * repeats),
        }
        for name, (command, times) in commands.items():
            seconds, outputs = zip(*(_timed(command, cwd=clone) for _ in range(times)), strict=True)
            result.arms[name] = summary(seconds)
            if "--json" in command:
                steps = json.loads(outputs[-1])["pipeline"]["steps"]
                result.facts["stages with nothing changed"] = dict(Counter(step["outcome"] for step in steps))
    return result


def switchback() -> list[str]:
    """The console script beside this interpreter."""
    return [str(Path(sys.executable).with_name("switchback"))]


def _timed(command: list[str], cwd: Path) -> tuple[float, str]:
    # The clone's own packages come first, and its stages find this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PYTHONPATH": str(cwd), "PATH": path}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SwitchbackError(
            f"exit {done.returncode}: {last}", where=f"{Path(command[0]).name} {command[1]}", fix="run it by hand"
        )
    return seconds, done.stdout
