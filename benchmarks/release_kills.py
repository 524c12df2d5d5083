"""SIGKILL at random instants of random parts of a release service, in all of its states; what is true in the end.

`python -m benchmarks release_kills`; a stopped campaign goes on where it was. One service lives through all kills of a
process of this bench; every kill is a release of its own. What must hold after each: the release ended rightly or the
champion is what it was, a candidate that is wrong is never champion, all traffic is answered by the champion, the
ledger verifies, every alias names a bundle that verifies, the client's exit code says what the ledger says, and a
controller that stays dead costs no more of the canary's answers than the lease lasts.
"""

import hashlib
import json
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Result, measuring, read_lines, summary
from benchmarks.release.killing import CANDIDATES, DOWN_SECONDS, GOOD, VICTIMS, Stage, drawn, play
from benchmarks.release.service import CONTROLLER, POLICY, under_traffic
from ci_tools.console import progress
from ci_tools.errors import DataError
from ci_tools.release.judge.policy import Events
from ci_tools.release.plan import LEASE_SECONDS

RUNS = ROOT / "build/release_kills"
"""Lines of the campaign; deleted to start afresh."""
RATE = 250.0
"""Requests per second."""
RULES = POLICY.model_copy(
    update={
        "events": {name: Events(margin_ratio=3.0, margin_rate=0.05) for name in POLICY.events},
        "latency": {},
        "ramp": POLICY.ramp.model_copy(update={"step_seconds": 1.0}),
        "min_seconds": 2.0,
        "watch_seconds": 1.0,
    }
)
"""A release that takes few seconds; what latency proves is not what kills are about."""


def main(options: Namespace) -> Result:
    """Make the kills that are missing, and count."""
    count = options.count or (10 if options.quick else 200)
    settings = {"count": count, "requests per second": RATE, "victims": VICTIMS,
                "candidates": CANDIDATES, "lease seconds": LEASE_SECONDS, "policy": RULES.model_dump(mode="json"),
                "controller": CONTROLLER}  # fmt: skip
    path = RUNS / ("quick.jsonl" if options.quick else "runs.jsonl")
    with measuring("release_kills", options.command, settings, "s per kill and release") as result:
        score(result, campaign(path, range(count)))
    return result


def campaign(path: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """One line per kill, those of earlier processes included.

    Raises:
        DataError: the earlier ones are of other code.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    code, lines = code_digest(), read_lines(path)
    if any(line["code"] != code for line in lines):
        raise DataError("kills of other code", where=path, fix="delete it to start afresh")
    done = {line["number"] for line in lines}
    todo = [number for number in numbers if number not in done]
    with path.open("a", encoding="utf-8") as file, progress(len(numbers), "kills") as bar:
        while todo:
            # After a kill that did harm, the next ones get a service of their own.
            with tempfile.TemporaryDirectory() as scratch, staged(Path(scratch)) as stage:
                while todo:
                    case = play(stage, drawn(todo.pop(0)))
                    lines.append(case.line | {"code": code})
                    file.write(json.dumps(lines[-1]) + "\n")
                    file.flush()
                    bar.update(len(numbers) - len(todo), f"{case.victim} {case.problem}")
                    if case.problem:
                        break
    return [line for line in lines if line["number"] in numbers]


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A service under traffic, and what is released on it."""
    with under_traffic(folder, RATE, policy=RULES) as (service, traffic):
        first = service.until(lambda status: bool(status.champion), "there is a champion").champion
        bad = {fault: service.bundle(fault, process=fault) for fault in CANDIDATES if fault != GOOD}
        yield Stage(service, traffic, (first, service.bundle("second")), bad)


def code_digest() -> str:
    """Of all that decides about an outcome: kills of different code are not one campaign."""
    packages = ("ci_tools/release", "benchmarks/release")
    files = sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def score(result: Result, lines: Sequence[dict[str, Any]]) -> None:
    """Count what became of the kills."""
    exposures = [line["exposure"] for line in lines if line["exposure"] is not None]
    result.arms["kill, end, checks"] = summary([line["seconds"] for line in lines])
    failures: dict[str, list[int]] = {}
    for line in lines:
        failures.setdefault(line["victim"], []).append(line["failures"])
    result.facts = {
        "kills": len(lines),
        "well": sum(not line["problem"] for line in lines),
        "victims": dict(Counter(line["victim"] for line in lines).most_common()),
        "last event before the blow": dict(Counter(line["state"] for line in lines).most_common()),
        "ended": {f"{candidate}, {ended}": number for (candidate, ended), number in
                  Counter((line["candidate"], line["ended"]) for line in lines).most_common()},
        "requests without a right answer after the blow (median, most)": {
            victim: [sorted(found)[len(found) // 2], max(found)] for victim, found in failures.items()
        },
        f"canary's answers after a controller's death, kept down for {DOWN_SECONDS:g} s": {
            "kills": len(exposures), "longest, s": max(exposures, default=0.0)
        },
        "failed": [f"kill {line['number']} ({line['victim']} behind {line['behind']} + {line['wait']} s, "
                   f"{line['candidate']}): {line['problem']}" for line in lines if line["problem"]],
    }  # fmt: skip
