"""How fast a canary that fails loses its traffic: outage → decision → last answer, over many rollbacks.

Every round is a release of its own: a sound canary ramps, then every answer of it fails. The decision is the ledger's
event, the last answer is the access log's; both carry the calendar's time of one machine.
"""

import random
import tempfile
import time
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Result, measuring, summary
from benchmarks.release.service import CONTROLLER, POLICY, Service, Unmet, under_traffic
from ci_tools.console import progress
from ci_tools.release.control import Phase
from ci_tools.release.control import Result as Outcome
from ci_tools.release.plan import Role

RATE = 200.0
"""Requests per second, all arms together."""
DECISION_SECONDS = 2.0
"""From the outage to the decision, at most, in each round."""
LAST_MS = 100.0
"""From the decision to the canary's last answer, at most, in 99 of 100 rounds."""
LONGEST_WAIT = 3.0
"""Seconds of ramping before the outage begins, at most; drawn anew in each round."""


class Round(NamedTuple):
    """One rollback."""

    outage_ms: float
    """From the outage to the decision."""
    last_ms: float
    """From the decision to the canary's last answer; below 0 where it was the sooner."""
    failed: int
    """Answers that clients got from the broken canary."""
    weight: float
    """Of the canary when it broke."""


def main(options: Namespace) -> Result:
    """Roll back again and again under steady traffic."""
    rounds = options.rounds or (5 if options.quick else 100)
    settings = {"rounds": rounds, "requests per second": RATE, "policy": POLICY.model_dump(mode="json"),
                "controller": CONTROLLER}  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch, measuring("rollback", options.command, settings, "ms") as result:
        with under_traffic(Path(scratch), RATE) as (service, traffic), progress(rounds, "rollbacks") as bar:
            candidate, chance, found = service.bundle("candidate"), random.Random(0), []
            for number in range(rounds):
                found.append(roll_back(service, candidate, chance.uniform(0, LONGEST_WAIT)))
                bar.update(number + 1)
            events = service.verified()
        result.facts["clients"] = traffic.summary
        result.facts["events of the ledger, verified"] = events
    judge(result, found)
    return result


def roll_back(service: Service, candidate: str, wait: float) -> Round:
    """One release whose canary breaks after `wait` seconds of ramping.

    Raises:
        Unmet: it did not ramp, or was not rolled back.
    """
    id_ = service.submit(candidate).id
    service.canary_answers()  # of earlier rounds
    service.until(lambda status: bool(status.release and status.release.phase is Phase.RAMPING), "the canary ramps")
    service.hold(service.in_force, "the weights are in force")
    time.sleep(wait)
    canary, status = service.member(Role.CANARY), service.status()
    if canary is None or status is None or status.release is None or status.release.result is not None:
        raise Unmet("the release ended before its canary broke")
    weight = status.release.canary_weight
    service.break_down(canary)
    begun = time.time()
    ended = service.follow(id_)
    if ended.result is not Outcome.ROLLED_BACK:
        raise Unmet(f"{id_} ended {ended.result}: {ended.reason}")
    (decided,) = [one for one in service.events() if one.release == id_ and one.kind == "deciding"]
    at = datetime.fromisoformat(decided.at).timestamp()
    answers = service.answers_until(at + 1.0)
    last = max(one.t + one.ms / 1e3 for one in answers)
    failed = sum(one.event is not None and one.t >= begun for one in answers)
    return Round((at - begun) * 1e3, (last - at) * 1e3, failed, weight)


def judge(result: Result, rounds: list[Round]) -> None:
    """Summarise, and name the limits that are broken."""
    outage, last = ([getattr(one, name) for one in rounds] for name in ("outage_ms", "last_ms"))
    result.arms["outage to decision"] = summary(outage)
    result.arms["decision to the canary's last answer"] = summary(last)
    slowest, late = float(np.max(outage)), float(np.percentile(last, 99))
    result.facts |= {
        "outage to decision, ms at most": slowest,
        "decision to last answer, ms at p99": late,
        "decision to last answer, ms at most": float(np.max(last)),
        "failed answers of the canary (median, most)": [float(np.median([one.failed for one in rounds])),
                                                        float(max(one.failed for one in rounds))],
        "weight at the outage (least, most)": [min(one.weight for one in rounds), max(one.weight for one in rounds)],
        "failed": [f"decided {slowest:.0f} ms after the outage, {1e3 * DECISION_SECONDS:.0f} allowed"]
        * (slowest > 1e3 * DECISION_SECONDS)
        + [f"last answer {late:.0f} ms after the decision at p99, {LAST_MS:.0f} allowed"] * (late > LAST_MS),
    }  # fmt: skip
