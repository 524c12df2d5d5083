"""The service under load: what clients notice of promotions, rollbacks, canaries that crash, and wrong answers.

Requests come at a steady rate, whether the ones before were answered or not; in each scenario for at least as long as
the settings say. A connection fault must reach nobody; wrong answers may reach as many as the damage budget says.
"""

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Result, measuring
from benchmarks.release.service import ACTOR, CONTROLLER, POLICY, Service, Unmet, under_traffic
from ci_tools.console import say
from ci_tools.errors import SwitchbackError
from ci_tools.release.control import Phase, Release
from ci_tools.release.control import Result as Outcome
from ci_tools.release.plan import Role

RATE = 1000.0
"""Requests per second that are sent; so many must be answered, too."""
SECONDS = 60.0
CRASH_RUN = 40
"""Run of the model in which the crashing canary dies, after each of its starts."""
WRONG_SHARE = 0.3
"""Of the answers of the canary that gives wrong ones."""
START_SECONDS = 2.0
"""Until the first request is sent, at most."""
RELEASE_SECONDS = 300.0
"""For a release to end."""
ANSWERED = 0.999
"""Share of `RATE` that must be answered."""
RULES = POLICY.model_copy(update={"watch_seconds": 60.0, "deadline_seconds": 240.0})
"""A watch that is long enough for a person to end it, and time to prove the latency of a machine that is busy."""


class Scenario(NamedTuple):
    """One story, and what it may cost."""

    play: Callable[[Service], list[Release]]
    """Releases, in their order, as they ended."""
    ends: tuple[Outcome, ...]
    """As they must."""
    damage: float
    """Requests without a right answer that clients may see."""


def main(options: Namespace) -> Result:
    """Each scenario has a service of its own."""
    seconds = 15.0 if options.quick else SECONDS
    settings = {"requests per second": RATE, "seconds": seconds, "policy": RULES.model_dump(mode="json"),
                "controller": CONTROLLER}  # fmt: skip
    with measuring("load", options.command, settings, "ms", threads=2) as result:
        failed: list[str] = []
        for name, scenario in SCENARIOS.items():
            say(f"{name}: at least {seconds:g} s at {RATE:g} requests per second")
            seen = measure(scenario, seconds)
            result.facts[name] = seen
            result.arms[name] = {"median": seen["ms"]["p50"], "q1": seen["ms"]["p50"], "q3": seen["ms"]["p99"],
                                 "n": seen["sent"]}  # fmt: skip
            failed += [f"{name}: {problem}" for problem in judge(scenario, seen)]
        result.facts["failed"] = failed
    return result


def measure(scenario: Scenario, seconds: float, rate: float = RATE) -> dict[str, Any]:
    """Play one, and tell what clients saw of it."""
    ended, problem = [], ""
    with tempfile.TemporaryDirectory() as scratch:
        with under_traffic(Path(scratch), rate, policy=RULES) as (service, traffic):
            begun = time.monotonic()
            try:
                ended = scenario.play(service)
                service.verified()
            except (Unmet, SwitchbackError) as error:
                problem = str(error)
            time.sleep(max(begun + START_SECONDS + seconds - time.monotonic(), 0))
        wrong = traffic.failures()
    return traffic.summary | {
        "rate": rate,
        "problem": problem,
        "releases": [{"result": one.result, "seconds": one.seconds, "reason": one.reason} for one in ended],
        "without a right answer": len(wrong),
        "reasons": sorted({one["why"][:80] for one in wrong})[:5],
    }


def judge(scenario: Scenario, seen: dict[str, Any]) -> list[str]:
    """What must not be."""
    problems, ends = [seen["problem"]] * bool(seen["problem"]), tuple(one["result"] for one in seen["releases"])
    if not problems and ends != scenario.ends:
        problems.append(f"ended {', '.join(map(str, ends))}, not {', '.join(scenario.ends)}: {seen['releases']}")
    if seen["without a right answer"] > scenario.damage:
        problems.append(
            f"{seen['without a right answer']} requests without a right answer, {scenario.damage:g} allowed"
        )
    answered = sum(seen["answered"].values()) / seen["seconds"]
    if answered < ANSWERED * seen["rate"]:
        problems.append(f"{answered:.0f} answers per second, sent were {seen['rate']:g}")
    return problems


def _promotion(service: Service) -> list[Release]:
    return [service.release(service.bundle("candidate"), RELEASE_SECONDS)]


def _rollback(service: Service) -> list[Release]:
    """By a person: first while it ramps, then after it was promoted."""
    candidate = service.bundle("candidate")
    ramping = service.submit(candidate)
    service.until(lambda status: bool(status.release and status.release.canary_weight > 0), "the canary ramps")
    service.hold(service.in_force, "the weights are in force")
    service.connection.order("rollback", ACTOR, "a drill")
    first = service.follow(ramping.id)
    promoted = service.submit(candidate)
    if service.follow(promoted.id, RELEASE_SECONDS).result is not Outcome.PROMOTED:
        raise Unmet("the healthy canary was not promoted, so that there is nothing to return from")
    service.hold(lambda: service.actual.ready(Role.PREVIOUS, first.champion), "the champion before is kept warm")
    service.connection.order("rollback", ACTOR, "a drill")
    status = service.until(lambda one: one.champion == first.champion, "the champion before is back")
    if status.release is None or status.release.id != promoted.id:
        raise Unmet(f"another release shows up: {status.release}")
    return [first, status.release]


def _crash(service: Service) -> list[Release]:
    return [service.release(service.bundle("candidate", process=f"crash:{CRASH_RUN}"))]


def _crash_while_ramping(service: Service) -> list[Release]:
    """The canary runs well until it answers clients, then it is killed again and again."""
    id_ = service.submit(service.bundle("candidate")).id
    service.until(lambda status: bool(status.release and status.release.canary_weight > 0), "the canary ramps")
    service.hold(service.in_force, "the weights are in force")
    while (status := service.status()) and status.release and status.release.phase is Phase.RAMPING:
        canary = service.member(Role.CANARY)
        if canary and canary.pid:
            service.crash(canary)
        time.sleep(0.3)
    return [service.follow(id_)]


def _wrong_answers(service: Service) -> list[Release]:
    """The canary answers well until it answers clients, then nothing that it says is right."""
    id_ = service.submit(service.bundle("candidate")).id
    service.until(lambda status: bool(status.release and status.release.canary_weight > 0), "the canary ramps")
    service.hold(service.in_force, "the weights are in force")
    if canary := service.member(Role.CANARY):
        service.break_down(canary)
    return [service.follow(id_)]


def _some_wrong_answers(service: Service) -> list[Release]:
    return [service.release(service.bundle("candidate", process=f"errors:{WRONG_SHARE}"))]


DAMAGE = RULES.ramp.damage
PROMOTED, BACK = Outcome.PROMOTED, Outcome.ROLLED_BACK
SCENARIOS = {
    "a healthy canary is promoted": Scenario(_promotion, (PROMOTED,), 0),
    "a healthy canary is rolled back by a person, as champion too": Scenario(_rollback, (BACK, BACK), 0),
    "a canary crashes in its first runs": Scenario(_crash, (BACK,), 0),
    "a canary crashes again and again while it ramps": Scenario(_crash_while_ramping, (BACK,), 0),
    "a canary answers wrongly in 30 % of its runs": Scenario(_some_wrong_answers, (BACK,), DAMAGE),
    "a canary answers nothing but errors from its ramp on": Scenario(_wrong_answers, (BACK,), DAMAGE),
}
