"""The controller: whatever changes a release goes through here, and into the ledger first.

One lock: people ask in threads of their own, while the loop calls `tick`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.files import write_atomic
from ci_tools.lock import Taken, alone
from ci_tools.release.control import Event, Phase, Release, Result, Status
from ci_tools.release.controller import asking, bundles, judged, machine, plans, showing
from ci_tools.release.controller.clock import Clock, MachineClock
from ci_tools.release.controller.judged import Judged
from ci_tools.release.controller.machine import Facts, Move, Server
from ci_tools.release.controller.pairs import AT_ONCE, Pairs
from ci_tools.release.controller.servers import Servers
from ci_tools.release.controller.settings import Settings
from ci_tools.release.controller.standing import Course, Kind, Standing, fold
from ci_tools.release.controller.telemetry import Answered, Telemetry, answered
from ci_tools.release.controller.work import Work, begun
from ci_tools.release.home import Home
from ci_tools.release.judge import Action
from ci_tools.release.judge import policy as judge_policy
from ci_tools.release.ledger import Ledger
from ci_tools.release.plan import Actual, Health, Lease, Role
from ci_tools.release.registry import Registry

_MOVES = 4
"""In one tick at most: decided, acted on, and what follows."""
_AT_ONCE = 10_000
"""Events that are read from the ledger in one go."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a controller goes by."""

    policy: Path = judge_policy.FILE
    """release.yaml, read when a release begins."""
    settings: Settings = field(default_factory=Settings)
    clock: Clock = field(default_factory=MachineClock)
    ask: Answered = answered
    """For Envoy's counters."""
    verify: Callable[[Home, str], object] = bundles.verified
    """Raises where a bundle, by its digest, is not to be trusted."""
    keep: Callable[[Home, Path], str] = bundles.kept
    """Adds a bundle to the registry, or raises where it is not to be trusted; returns its digest."""


class Controller:
    """Of one home. Implements `Control`."""

    def __init__(self, home: Home, around: Surroundings | None = None) -> None:
        """Read the ledger, and bring what is asked for back in line with it.

        Raises:
            SwitchbackError: the ledger was tampered with, another controller runs, or the disk refuses.
        """
        self._home, self._around = home, around or Surroundings()
        self._settings, self._clock = self._around.settings, self._around.clock
        self._lock = threading.RLock()
        home.path.mkdir(parents=True, exist_ok=True)
        self._telemetry = Telemetry(home.access_log, self._settings.silent_seconds, self._around.ask)
        self._servers, self._actual = Servers(), Actual()
        self._roles: dict[Role, Server] = {}
        self._trouble, self._trouble_since, self._failure = "", 0.0, ""
        self._planned, self._lent, self._saved = 0, (0, 0.0), 0.0
        self._standing = Standing()
        self._work: Work | None = None
        with ExitStack() as files:
            files.enter_context(_only_one(home.path / "controller.lock"))
            self._ledger = files.enter_context(Ledger(home.ledger, wall=self._clock.wall))
            self._pairs = files.enter_context(closing(Pairs(home.pairs)))
            self._ledger.verify()
            self._catch_up()
            self._resume(self._clock.now())
            self._record(Move(Kind.STARTED, {"pid": os.getpid()}))
            self._files = files.pop_all()

    def close(self) -> None:
        """Let go of all files. What was counted since the last writing is counted again by the next controller."""
        with self._lock:
            self._files.close()

    def tick(self) -> None:
        """Look at everything once, and do what follows.

        Whatever is raised, nothing was done that is not written, and no weight is lent on; the next tick starts over.

        Raises:
            SwitchbackError: the disk refuses.
        """
        with self._lock:
            now = self._clock.now()
            try:
                if self._failure:
                    self._start_over(now)
                self._do(now)
            except Exception as error:
                what = str(error) if isinstance(error, SwitchbackError) else f"{type(error).__name__}: {error}"
                self._failure = f"The controller cannot work: {what}"
                raise
            self._failure = ""

    def status(self) -> Status:
        """What is going on."""
        with self._lock:
            work, standing = self._work, self._standing
            kept = standing.course.decision if standing.course else None
            return Status(
                champion=standing.champion,
                previous=standing.previous,
                release=self._shown(standing.course) if standing.course else None,
                decision=work.decision if work else kept,
                actual=self._actual,
                warnings=showing.warnings(self._actual, self._trouble, self._failure, work.log.gaps if work else 0),
                per_second=self._telemetry.per_second,
                controller_pid=os.getpid(),
            )

    def events(self, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events of the ledger behind number `after`, oldest first."""
        with self._lock:
            return self._ledger.events(after, limit)

    def add(self, bundle: Path) -> str:
        """Check a bundle and keep a copy of it in the registry; returns its digest."""
        return self._around.keep(self._home, bundle)

    def submit(self, bundle: str, actor: str, again: bool = False) -> Release:
        """Begin a canary of a bundle that is verified first; where that very bundle is on its way, is the champion, or
        was the last one and was rolled back, its release. With `again` one that was rolled back begins anew.
        """
        self._around.verify(self._home, bundle)
        with self._lock:
            self._read_ledger()
            standing, course = self._standing, self._standing.course
            anew = course and course.phase is Phase.IDLE and (again or course.result is not Result.ROLLED_BACK)
            if course and course.bundle == bundle and not anew:
                return self._shown(course)
            if bundle == standing.champion:
                return self._shown(standing.reigns[bundle])
            policy = judge_policy.load(self._around.policy)
            share = plans.mirror_share(self._telemetry.per_second, self._settings)
            move = asking.submit(standing, bundle, actor, policy, share)
            if standing.champion:
                bundles.comparable(self._home, standing.champion, bundle, policy)
            if course and course.phase is Phase.WATCHING:
                self._record(machine.watched(standing, "The next release ends the watch.", actor))
                move = asking.submit(self._standing, bundle, actor, policy, share)
            self._record(move, standing.next_release)
            begun, needed = self._shown(cast(Course, self._standing.course)), self._standing.bundles
        # Without the lock: a client that adds a bundle has the registry's, and the lease must be renewed meanwhile.
        with suppress(SwitchbackError):  # what cannot be removed takes space, and nothing else
            Registry(self._home.bundles).prune(needed)
        return begun

    def pause(self, actor: str, reason: str) -> Status:
        """Keep the weight; nothing is promoted until `resume`. Harm still rolls back; the deadline waits."""
        with self._lock:
            return self._asked(asking.pause(self._known(), actor, reason))

    def resume(self, actor: str, reason: str) -> Status:
        """Go on after `pause`."""
        with self._lock:
            return self._asked(asking.resume(self._known(), actor, reason))

    def roll_back(self, actor: str, reason: str) -> Status:
        """All traffic to the champion, at once; in the watch phase, back to the champion before."""
        with self._lock:
            return self._asked(asking.roll_back(self._known(), actor, reason, self._seconds(self._clock.now())))

    def promote(self, actor: str, reason: str) -> Status:
        """Make the canary champion without waiting for the judge, unless it has proven harm."""
        with self._lock:
            standing, now = self._known(), self._clock.now()
            decision = self._work.decision if self._work else None
            canary = self._roles.get(Role.CANARY, Server())
            return self._asked(asking.promote(standing, decision, canary, self._seconds(now), actor, reason))

    def label(self, labels: Mapping[str, float]) -> int:
        """True outcomes in [0, 1] by request id; returns how many belong to mirrored requests."""
        asking.labels(labels)
        found, waiting = 0, iter(labels.items())
        while some := dict(islice(waiting, AT_ONCE)):
            with self._lock:  # let go in between: labels by the hundred thousand must not keep the lease from renewal
                found += self._pairs.label(some) if self._work else 0
            time.sleep(0.001)
        return found

    def _known(self) -> Standing:
        self._read_ledger()
        return self._standing

    def _asked(self, move: Move) -> Status:
        self._record(move)
        return self.status()

    def _do(self, now: float) -> None:
        self._read_ledger()
        self._actual = self._read_actual()
        self._count(now)
        trouble = self._telemetry.look(now, self._actual, self._work.log.damaged if self._work else 0)
        if bool(trouble) != bool(self._trouble):
            self._trouble_since = now
        self._trouble = trouble
        for _ in range(_MOVES):
            self._roles = self._servers.look(now, self._actual, self._standing.plan)
            move = self._next_move(now)
            if move is None:
                break
            self._record(move)
        self._lend(now)
        if self._work and now - self._saved >= self._settings.save_seconds and self._work.save(now):
            self._saved = now

    def _start_over(self, now: float) -> None:
        """A tick that failed may have counted a part: go back to what is on the disk."""
        self._pairs.forget()
        self._work = None
        self._catch_up()
        self._resume(now)

    def _count(self, now: float) -> None:
        work, course = self._work, self._standing.course
        if work is None or course is None:
            return
        if course.phase in (Phase.PROMOTING, Phase.WATCHING):
            work.watch(now)
        else:
            work.count(now, course, [one.name for one in self._actual.members], self._in_force(course))

    def _in_force(self, course: Course) -> tuple[float, float]:
        """Weights that route requests now: none without a lease."""
        return course.serials.get(self._actual.serial, (0.0, 0.0)) if self._actual.leased else (0.0, 0.0)

    def _next_move(self, now: float) -> Move | None:
        work, plan, actual = self._work, self._standing.plan, self._actual
        if work is None or plan is None:
            return None
        current, stable = actual.serial == plan.serial, self._roles.get(Role.STABLE, Server())
        facts = Facts(
            decision=work.decision,
            stable=stable,
            baseline=self._roles.get(Role.BASELINE, Server()),
            canary=self._roles.get(Role.CANARY, Server()),
            in_force=current and actual.leased,
            serving=current and stable.health is Health.READY,
            trouble=self._trouble,
            waiting=work.waiting,
            exercised=work.state.seen > work.state.weight_since,
            copies=work.state.flips.pairs,
            unanswered=self._pairs.unanswered() if work.decision.action is Action.ROLL_BACK else 0,
            per_second=self._telemetry.per_second,
            phase_seconds=now - work.since,
            seconds=self._seconds(now),
            watch_seconds=work.policy.watch_seconds,
        )
        return machine.step(self._standing, facts, self._settings)

    def _record(self, move: Move, release: str = "") -> None:
        """Into the ledger first; what follows from it comes after."""
        course, body = self._standing.course, move.body
        ours = release or (course.id if course and move.kind is not Kind.STARTED else "")
        if move.kind is Kind.ROLLED_BACK and self._work and course and not course.decided:
            body = body | {"decision": self._work.decision.model_dump(mode="json")}  # what a person overrode, too
        self._ledger.append(move.kind, move.actor, ours, body)
        self._read_ledger()

    def _read_ledger(self) -> None:
        """Follow what is written, also where its writer was told that it failed."""
        if self._catch_up():
            self._follow(self._clock.now())
        plan = self._standing.plan
        if plan and plan.serial != self._planned:
            write_atomic(self._home.plan, plan.model_dump_json())
            self._planned = plan.serial

    def _catch_up(self) -> bool:
        before = self._standing.seq
        try:
            while events := self._ledger.events(self._standing.seq, _AT_ONCE):
                self._standing = fold(events, self._standing)
        except (KeyError, ValueError) as error:
            raise SwitchbackError(f"an event behind {before} cannot be read ({error!r})", where=self._home.ledger,
                                  fix="use the version of Switchback that wrote it") from None  # fmt: skip
        return self._standing.seq > before

    def _follow(self, now: float) -> None:
        """Begin, continue or end the counting of a release."""
        course, work = self._standing.course, self._work
        if work and (course is None or course.id != work.release or course.phase is Phase.IDLE):
            self._work = work = None
            self._pairs.clear()
        if course is None or course.phase is Phase.IDLE:
            return
        if work is None:
            members = [one.name for one in self._read_actual().members]
            self._begin(course, begun(self._home, course, self._clock.boot, now, members))
        else:
            work.entered(course.phase, now)

    def _resume(self, now: float) -> None:
        """Go on where the last controller was; a release that cannot be judged any more returns to its champion."""
        course = self._standing.course
        if course is None or course.phase is Phase.IDLE:
            return
        try:
            kept = judged.load(self._home, course.id, self._clock.boot, now)
            self._begin(course, kept or begun(self._home, course, self._clock.boot, now, None))
        except (ConfigError, ValidationError) as error:
            reason = f"It cannot be judged any more: {error}".splitlines()[0]
            self._record(machine.rolled_back(self._standing, course, Result.ROLLED_BACK, reason, 0.0))

    def _begin(self, course: Course, kept: Judged) -> None:
        thresholds = bundles.comparable(self._home, course.champion, course.bundle, course.judge_policy())
        self._work = Work(self._home, course, self._settings, thresholds, self._pairs, kept)
        self._work.entered(course.phase, self._clock.now())

    def _lend(self, now: float) -> None:
        """Lend the plan's weights for a few seconds more, unless nobody sees what they do."""
        plan = self._standing.plan
        if plan is None or (self._trouble and now - self._trouble_since > self._settings.grace_seconds):
            return
        serial, at = self._lent
        if serial != plan.serial or now - at >= self._settings.lease_seconds / 6:
            lease = Lease(serial=plan.serial, until=now + self._settings.lease_seconds)
            write_atomic(self._home.lease, lease.model_dump_json(), durable=False)
            self._lent = plan.serial, now

    def _read_actual(self) -> Actual:
        """What the supervisor wrote last; what was known where that cannot be read."""
        try:
            return Actual.model_validate_json(self._home.actual.read_bytes())
        except (OSError, ValidationError):
            return self._actual

    def _seconds(self, now: float) -> float:
        return now - self._work.origin if self._work else 0.0

    def _shown(self, course: Course) -> Release:
        return showing.release(course, self._seconds(self._clock.now()), self._standing.plan)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the home against other controllers.

    Raises:
        ConfigError: another process has it.
    """
    try:
        with alone(path, f"process {os.getpid()}"):
            yield
    except Taken as taken:
        what = f"another controller runs here, as {taken.owner}"
        raise ConfigError(
            what, where=path.parent, rule="a home has one", fix="end it, or name another --home"
        ) from None
