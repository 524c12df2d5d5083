"""`python -m benchmarks [NAME]`: measure, print a table, write JSON."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import environment, report
from benchmarks.harness import ROOT
from ci_tools.console import QUIET
from ci_tools.errors import SwitchbackError, TrainingFailed

NAMES = (
    "monitor", "train", "determinism", "pipeline", "page", "tracking", "kill", "against_main", "faults", "judge",
    "serving", "rollback", "load", "release_kills", "release_faults", "preemption", "images",
    "rehearsal",
)  # fmt: skip
WITH_PEERS = ("monitor", "train")
RESULTS = Path("benchmarks/results")
QUICK_RESULTS = Path("build/benchmarks")


def main() -> int:
    """Each benchmark runs in a process of its own: flags, thread pools and caches of one must not reach the next."""
    options = parse(sys.argv[1:])
    if options.name == "report":
        print(report.report(ROOT / folder(options)) or f"no results in {folder(options)}")
        return 0
    try:
        if options.here:
            measure(options)
            return 0
        arguments = [word for word in sys.argv[1:] if word != options.name]
        return max(delegate(name, arguments) for name in (NAMES if options.name == "all" else (options.name,)))
    except SwitchbackError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def delegate(name: str, arguments: list[str]) -> int:
    """Run one benchmark in its own process, with the peers where it has some."""
    python = environment.python() if name in WITH_PEERS else sys.executable
    # The stages run with this setting (see ci_tools/pipeline.py); all arms get it, peers too.
    settings = {**os.environ, "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000")}
    command = [python, "-m", "benchmarks", name, "--here", *arguments]
    return subprocess.run(command, cwd=ROOT, env=settings).returncode


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, print a table, write JSON.")
    parser.add_argument("name", nargs="?", default="all", choices=(*NAMES, "all", "report"))
    parser.add_argument("--quick", action="store_true", help=f"a minute each, written to {QUICK_RESULTS}")
    parser.add_argument("--out", type=Path, help=f"folder for the JSON (default: {RESULTS})")
    parser.add_argument("--rounds", type=int, default=0, help="rounds, instead of the benchmark's own number")
    parser.add_argument(
        "--count",
        type=int,
        default=0,
        help="kill, against_main, release_kills, preemption: how often (default: 200, 400, 200 and 12)",
    )
    parser.add_argument("--rescore", action="store_true", help="faults: judge the runs that are there, make no others")
    parser.add_argument("--here", action="store_true", help="in this environment, without the peers it lacks")
    options = parser.parse_args(arguments)
    words = ["python -m benchmarks", options.name, "--quick" if options.quick else ""]
    words += [f"--{key} {value}" for key in ("rounds", "count") if (value := getattr(options, key))]
    options.command = " ".join(filter(None, words))
    return options


def folder(options: argparse.Namespace) -> Path:
    """Where results go: a quick run never replaces published figures."""
    chosen: Path | None = options.out
    return chosen or (QUICK_RESULTS if options.quick else RESULTS)


def measure(options: argparse.Namespace) -> None:
    """Run one benchmark in this process, print it, write it.

    Raises:
        SwitchbackError: something that must hold did not; the figures are written all the same.
    """
    os.environ[QUIET] = "1"
    result = importlib.import_module(f"benchmarks.{options.name}").main(options)
    path = result.write(ROOT / folder(options))
    print(f"{report.describe(result)}\n\nwrote {os.path.relpath(path, ROOT)}\n")
    if result.facts.get("failed"):
        raise TrainingFailed(f"{len(result.facts['failed'])} failed", where=options.name)


if __name__ == "__main__":
    sys.exit(main())
