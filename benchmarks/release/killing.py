"""One release during which something is killed: who, when, and whether all is well in the end."""

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

import psutil

from benchmarks.release.service import ACTOR, Service, Unmet
from benchmarks.release.traffic import NAME, Traffic
from ci_tools.errors import SwitchbackError
from ci_tools.release.control import Event
from ci_tools.release.control import Result as Outcome
from ci_tools.release.controller.standing import fold
from ci_tools.release.plan import LEASE_SECONDS, Role
from ci_tools.release.supervisor.child import Child

VICTIMS = ("controller", "controller, kept down", "envoy", "supervisor", "stable", "baseline", "canary", "client")
EARLY_SECONDS, LATE_SECONDS = 0.1, 2.5
"""The blow falls within the first span behind its event in half of the cases, within the second in the others."""
GOOD = "good"
CANDIDATES = {
    GOOD: ("submitted", "ramping", "weight", "deciding", "promoting", "watching", "watched"),
    "errors:0.3": ("submitted", "deciding", "rolled back"),
    "fails:250": ("submitted", "ramping", "deciding", "rolled back"),
}
"""Candidates, as benchmarks/release/server.py knows their faults, with the events behind which the blow may fall:
states that last milliseconds are hit as often as others. A canary of the last kind answers well in its first 250 runs,
then never again.
"""
GOOD_SHARE = 0.6
DOWN_SECONDS = LEASE_SECONDS + 2.0
"""For which a controller is kept down."""
GRACE_SECONDS = 0.5
"""Beyond the lease: until the supervisor has looked, and Envoy has taken what it wrote."""
PATIENCE = 90.0
CLIENT = """
import sys
from pathlib import Path
from ci_tools.errors import run_stage
from ci_tools.release.client.commands import release
from ci_tools.release.client.connection import Address
from ci_tools.release.home import Home
code = 0
def work():
    global code
    done = release(sys.argv[2], Address(Home(Path(sys.argv[1]))), actor=sys.argv[3], again="again" in sys.argv)
    code = done.exit_code
sys.exit(run_stage(work) or code)
"""
_CODES = {Outcome.PROMOTED: 0, Outcome.ROLLED_BACK: 1, Outcome.INCONCLUSIVE: 3}


@dataclass(kw_only=True)
class Case:
    """One kill; a line of the campaign."""

    number: int
    victim: str
    behind: str
    """Kind of event behind which the blow fell."""
    wait: float
    """Seconds behind it."""
    candidate: str
    """`good`, or what is wrong with it: then it must not become champion."""
    state: str = ""
    """Last event of the release when the blow fell."""
    ended: str = ""
    reason: str = ""
    seconds: float = 0.0
    exposure: float | None = None
    """Seconds from a controller's death, kept down, to the canary's last answer."""
    failures: int = 0
    """Requests without a right answer, from the blow to the end."""
    problem: str = ""
    """What must not be; empty: all is well."""

    @property
    def line(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Stage:
    """A service with the bundles that are released on it."""

    service: Service
    traffic: Traffic
    good: tuple[str, str]
    """Of which one is champion and the other the next candidate."""
    bad: Mapping[str, str]
    """By fault."""


def drawn(number: int, victims: Sequence[str] = VICTIMS) -> Case:
    """Who dies and when: the same for a number, every time."""
    chance = random.Random(number)
    longest = EARLY_SECONDS if chance.random() < 0.5 else LATE_SECONDS
    bad = [candidate for candidate in CANDIDATES if candidate != GOOD]
    candidate = GOOD if chance.random() < GOOD_SHARE else chance.choice(bad)
    return Case(
        number=number,
        victim=chance.choice(victims),
        behind=chance.choice(CANDIDATES[candidate]),
        wait=round(chance.uniform(0, longest), 4),
        candidate=candidate,
    )


def play(stage: Stage, case: Case) -> Case:
    """Release a candidate, strike, put back what an operator or systemd would, and look at the end."""
    service, begun = stage.service, time.monotonic()
    try:
        champion = _champion(service)
        others = [one for one in stage.good if one != champion]
        candidate = stage.bad[case.candidate] if case.candidate in stage.bad else others[0]
        after, client = len(service.events()), _client(service, candidate, "again")
        try:
            struck = _strike(service, case, client, after)
            client = _revive(service, case, client, candidate, struck)
            code = _ended(service, client)
        finally:
            client.kill()
        time.sleep(0.3)  # a second client might have begun a second release: it would be seen below
        case.failures = len(stage.traffic.failures(struck))
        _inspect(service, case, candidate, champion, code, after)
    except (Unmet, SwitchbackError, psutil.Error) as error:
        case.problem = str(error)
    case.seconds = round(time.monotonic() - begun, 2)
    return case


def _client(service: Service, candidate: str, *again: str) -> Child:
    words = (sys.executable, "-c", CLIENT, str(service.home.path), candidate, ACTOR, *again)
    return Child(words, service.folder / "client.log")


def _strike(service: Service, case: Case, client: Child, after: int) -> float:
    """Wait for the moment, then kill; seconds since 1970."""
    seen: list[str] = []

    def come() -> bool:
        seen[:] = kinds(service, after)
        # A release that ends otherwise has no such event: then its end is the moment.
        return case.behind in seen or bool({"rolled back", "watched"} & set(seen)) or bool(client.ended())

    service.hold(come, f"event {case.behind!r}", PATIENCE, pause=0.002)
    time.sleep(case.wait)
    case.state = (kinds(service, after) or ["before"])[-1]
    pid = _pid(service, case.victim, client)
    if not pid:  # such as a canary that has gone: every blow hits somebody
        case.victim = "supervisor"
        pid = service.pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP if case.victim == "controller, kept down" else signal.SIGKILL)
    return time.time()


def kinds(service: Service, after: int) -> list[str]:
    """Of the events behind a number; quick enough to be asked 500 times a second."""
    with suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{service.home.ledger}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT kind FROM events WHERE seq > ? AND kind != 'started' ORDER BY seq", (after,)
            )
            return [kind for (kind,) in rows]
        finally:
            database.close()
    return []


def _pid(service: Service, victim: str, client: Child) -> int:
    """0: there is none just now."""
    if victim in list(Role):
        member = service.member(Role(victim))
        return member.pid if member else 0
    found = {"envoy": lambda: service.actual.envoy_pid, "supervisor": lambda: service.pid,
             "client": lambda: 0 if client.ended() else client.pid}  # fmt: skip
    return found.get(victim, service.controller_pid)()


def _revive(service: Service, case: Case, client: Child, candidate: str, struck: float) -> Child:
    """What dies by itself is put back by the service; the rest by systemd, and by the person at the client."""
    if case.victim == "controller, kept down":
        pid, leased = service.controller_pid(), service.actual.leased
        if not pid:
            raise Unmet("the controller is gone, though nobody killed it")
        time.sleep(max(struck + DOWN_SECONDS - time.time(), 0))
        answers = [one for one in service.answers_until(struck + DOWN_SECONDS - 0.5) if one.t > struck]
        ends = max((one.t + one.ms / 1e3 - struck for one in answers), default=0.0)
        case.exposure = round(ends, 3) if leased else None
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if case.victim == "supervisor":
        service.hold(lambda: bool(service.ended), "the supervisor ends")
        _, alive = psutil.wait_procs(service.children(), timeout=5)
        if alive:
            raise Unmet(f"{len(alive)} processes outlived their supervisor")
        service.start()
    if case.victim == "client":
        client.kill()  # it is dead already: this waits for its end
        return _client(service, candidate)
    return client


def _ended(service: Service, client: Child) -> int:
    """The client's exit code, when the service is at rest, too."""
    service.hold(lambda: bool(client.ended()), "the client ends", PATIENCE, pause=0.05)
    service.until(lambda one: one.release is None or one.release.phase == "idle", "the service is at rest", PATIENCE)
    return client.exit_code or 0


def _inspect(service: Service, case: Case, candidate: str, champion: str, code: int, after: int) -> None:
    """Whether all is as it must be.

    Raises:
        Unmet: it is not.
    """
    service.verified()
    events = service.events()
    standing = fold(events)
    ours = [event for event in events if event.seq > after and event.kind == "submitted"]
    course = standing.course
    if course is None or len(ours) > 1 or any(event.body["bundle"] != candidate for event in ours):
        raise Unmet(f"{len(ours)} releases were begun by one client")
    case.ended, case.reason = str(course.result or ""), course.reason
    if ours and standing.champion not in ((champion, candidate) if case.candidate == GOOD else (champion,)):
        raise Unmet(f"champion is {standing.champion[:12]}")
    if (standing.champion == candidate) != (course.result is Outcome.PROMOTED):
        raise Unmet(f"the release ended {course.result}, champion is {standing.champion[:12]}")
    if course.result is None or code != _CODES[course.result]:
        raise Unmet(f"the client ended with {code}, the release {course.result}")
    for digest in {standing.champion, standing.previous, course.bundle, _serving(events)} - {""}:
        service.registry.get(digest, service.trust)
    if case.exposure is not None and case.exposure > LEASE_SECONDS + GRACE_SECONDS:
        raise Unmet(f"the canary answered for {case.exposure:.2f} s after the controller's death")
    _serves(service, standing.champion)


def _serving(events: Sequence[Event]) -> str:
    """Bundle that the last plan names for stable."""
    plans = [event.body["plan"] for event in events if "plan" in event.body]
    return str(plans[-1]["pools"]["stable"])


def _serves(service: Service, champion: str) -> None:
    """All traffic goes to the champion, and is answered."""
    service.hold(lambda: service.actual.ready(Role.STABLE, champion), "the champion serves")
    service.hold(lambda: answering(service.port) == champion, "the champion answers")
    now = time.time()
    late = [entry for entry in service.answers_until(now + 0.5) if entry.t > now]
    if late:
        raise Unmet(f"the canary answers {len(late)} requests after the end")


def _champion(service: Service) -> str:
    return service.until(lambda one: bool(one.champion), "the service answers").champion


def answering(port: int) -> str:
    """Digest of the bundle that answers clients; empty: none does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v2/models/{NAME}")
        return str(json.loads(connection.getresponse().read())["versions"][0])
    except (OSError, HTTPException, ValueError, KeyError):
        return ""
    finally:
        connection.close()
