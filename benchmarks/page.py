"""The HTML report of a long run: seconds to build it and to open it, its size, and the memory that building takes."""

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks import browser, long_run
from benchmarks.harness import ROOT, Result, measuring, summary
from ci_tools.errors import TrainingFailed

LONG = {"steps": 20_000, "layers": 60, "seeds": [1, 2, 3, 4, 5]}
QUICK = {"steps": 2_000, "layers": 20, "seeds": [1, 2]}
REFERENCE = {"steps": 400, "layers": 26, "seeds": [1, 2, 3, 4, 5]}
"""As large as a run of the shipped params."""
MEGABYTES, BUILD_SECONDS, GIBIBYTES, OPEN_SECONDS = 3.0, 5.0, 1.0, 2.0
"""Limits that the page of a long run must keep."""
BUILD = """
import json, re, sys, time
start = time.perf_counter()
from pathlib import Path
from ci_tools.gates.files import Verdicts
from ci_tools.gates.run import open_run
from ci_tools.report import html
root, seeds = Path(sys.argv[1]), json.loads(sys.argv[2])
verdicts = Verdicts(commit="", dirty=False, params_digest="", policy_digest="", started="2026-01-01T00:00:00+00:00")
html.write(open_run(seeds, root), verdicts, root / "report/index.html")
seconds = time.perf_counter() - start
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # getrusage counts the parent's, too
print(json.dumps({"seconds": seconds, "kib": int(peak[1])}))
"""


def main(options: Namespace) -> Result:
    """Each build has a process of its own, so that imports count and memory is that of one build."""
    repeats = options.rounds or (2 if options.quick else 7)
    sizes = {"long run": QUICK if options.quick else LONG, "reference size": REFERENCE}
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("page", options.command, sizes, "s") as result,
    ):
        for name, size in sizes.items():
            root = Path(scratch, name.replace(" ", "-"))
            long_run.write(root, **size)
            _measure(result, name, root, size["seeds"], repeats)
        judge(result, "long run")
    return result


def _measure(result: Result, name: str, root: Path, seeds: list[int], repeats: int) -> None:
    built = [_built(root, seeds) for _ in range(repeats)]
    page = root / "report/index.html"
    result.arms[f"build, {name}"] = summary([one["seconds"] for one in built])
    result.facts[f"megabytes, {name}"] = round(page.stat().st_size / 1e6, 3)
    result.facts[f"peak memory of the build in MiB, {name}"] = round(max(one["kib"] for one in built) / 1024)
    if not browser.PROGRAM:
        result.facts[f"open, {name}"] = "not measured: no chromium"
        return
    seconds = []
    for _ in range(repeats):
        with browser.started() as chromium, chromium.opened(page) as tab:
            seconds.append(tab.open_seconds)
            if tab.complaints:
                raise TrainingFailed(f"the page complains: {tab.complaints[0]}", where=page)
    result.arms[f"open in Chromium, {name}"] = summary(seconds)


def judge(result: Result, name: str) -> None:
    """Name the limits that are broken."""
    values = {
        f"{MEGABYTES} MB": result.facts[f"megabytes, {name}"] <= MEGABYTES,
        f"{GIBIBYTES} GiB": result.facts[f"peak memory of the build in MiB, {name}"] <= 1024 * GIBIBYTES,
        f"{BUILD_SECONDS} s to build": result.arms[f"build, {name}"]["median"] <= BUILD_SECONDS,
    }
    if f"open in Chromium, {name}" in result.arms:
        values[f"{OPEN_SECONDS} s to open"] = result.arms[f"open in Chromium, {name}"]["median"] <= OPEN_SECONDS
    result.facts["failed"] = [limit for limit, kept in values.items() if not kept]


def _built(root: Path, seeds: list[int]) -> dict[str, Any]:
    command = [sys.executable, "-c", BUILD, str(root), json.dumps(seeds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
