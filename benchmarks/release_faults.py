"""Every fault that a release service must withstand, planted in a whole one: it ends as it must, with the cause told.

`python -m benchmarks release_faults`; quick leaves out those that take long.
"""

import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks.harness import Result, measuring
from benchmarks.release.faults import DRILLS, Drill, Impossible
from benchmarks.release.killing import answering
from benchmarks.release.plays import Seen
from benchmarks.release.service import CONTROLLER, POLICY, SUPERVISOR, Service, Unmet
from ci_tools.console import say
from ci_tools.errors import SwitchbackError
from ci_tools.release.plan import Role


def main(options: Namespace) -> Result:
    """All drills, those of one scene on one service."""
    chosen = {name: drill for name, drill in DRILLS.items() if not (options.quick and drill.slow)}
    settings = {"policy": POLICY.model_dump(mode="json"), "controller": CONTROLLER, "supervisor": SUPERVISOR}
    with measuring("release_faults", options.command, settings, "s") as result:
        told: dict[str, Any] = {}
        scenes = list(dict.fromkeys(drill.scene.name for drill in chosen.values()))
        for scene in scenes:
            told |= play({name: drill for name, drill in chosen.items() if drill.scene.name == scene})
        result.arms = {name: dict.fromkeys(("median", "q1", "q3"), told[name]["seconds"]) | {"n": 1}
                       for name in chosen if "seconds" in told[name]}  # fmt: skip
        result.facts = {name: {key: value for key, value in told[name].items() if key != "seconds"} for name in chosen}
        result.facts["as they must"] = sum(one.get("problem") == "" for one in told.values())
        result.facts["not shown on this machine"] = [name for name in chosen if "left out" in told[name]]
        result.facts["failed"] = [f"{name}: {one['problem']}" for name, one in told.items() if one.get("problem")]
    return result


def play(drills: dict[str, Drill]) -> dict[str, dict[str, Any]]:
    """Those of one scene; after one that ended wrongly, the next gets a service of its own."""
    told: dict[str, dict[str, Any]] = {}
    todo = list(drills)
    while todo:
        try:
            with tempfile.TemporaryDirectory() as scratch, drills[todo[0]].scene.opened(Path(scratch)) as service:
                while todo:
                    name = todo.pop(0)
                    told[name] = one(drills[name], service)
                    say(f"{name}: {told[name]}")
                    if told[name]["problem"]:
                        break
        except Impossible as error:
            told |= {name: {"left out": str(error)} for name in todo}
            todo = []
    return told


def one(drill: Drill, service: Service) -> dict[str, Any]:
    """One drill, and whether the service is sound behind it."""
    begun, seen = time.monotonic(), Seen("", "")
    try:
        seen = drill.play(service)
        problem = drill.judge(seen)
        sound(service)
    except (Unmet, SwitchbackError) as error:
        problem = str(error)
    seconds = round(time.monotonic() - begun, 1)
    return {"ended": seen.end, "cause": seen.cause.replace(str(service.folder), "…"), "problem": problem,
            "seconds": seconds}  # fmt: skip


def sound(service: Service) -> None:
    """At rest, the champion serves, and the ledger verifies.

    Raises:
        Unmet, SwitchbackError: it does not.
    """
    status = service.until(lambda one: one.release is None or one.release.phase == "idle", "the service is at rest")
    service.hold(lambda: service.actual.ready(Role.STABLE, status.champion), "the champion serves")
    service.hold(lambda: answering(service.port) == status.champion, "the champion answers", 20)
    service.verified()
