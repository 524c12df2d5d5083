"""States of a release service with evidence from the real judge, and a control that plays them."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np

from ci_tools.errors import ConfigError
from ci_tools.release.control import Event, Phase, Release, Result, Status, Terms
from ci_tools.release.judge import Arm, Observation, Policy, begin, decide, update
from ci_tools.release.judge.latency import bin_of
from ci_tools.release.judge.telling import percent
from ci_tools.release.plan import Actual, Health, Member, Role, boot_time

OLD, CHAMPION, CANARY = (hashlib.sha256(name.encode()).hexdigest() for name in ("old", "champion", "canary"))
START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
POLICY = Policy()
TERMS = Terms(min_seconds=POLICY.min_seconds, deadline_seconds=POLICY.deadline_seconds,
              watch_seconds=POLICY.watch_seconds, first=POLICY.ramp.first, largest=POLICY.ramp.largest)  # fmt: skip
WEIGHTS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.25)


def observation(rng, seconds, weight, errors, slower=1.0, n=150):
    def arm(rate, factor):
        bins, counts = np.unique([bin_of(x) for x in factor * np.exp(rng.normal(3, 0.3, n))], return_counts=True)
        low = int(rng.integers(0, n))
        events = {"errors": int(rng.binomial(n, rate)), "timeouts": 0, "invalid_outputs": 0}
        latency = dict(zip(bins.tolist(), counts.tolist(), strict=True))
        return Arm(requests=n, events=events, latency=latency, scores={3: low, 9: n - low})

    return Observation(seconds=seconds, canary_weight=weight, baseline_weight=weight, canary=arm(errors, slower),
                       baseline=arm(0.01, 1), stable=arm(0.01, 1), pairs=40,
                       flips=int(rng.binomial(40, 0.005)))  # fmt: skip


@cache
def judged(seconds=180, errors=0.01):
    """The judge's decision after so long."""
    rng, state = np.random.default_rng(7), begin(POLICY)
    for at in range(5, seconds + 1, 5):
        state = update(state, observation(rng, at, WEIGHTS[min(at // 31, 5)], errors), POLICY)
    return decide(state, POLICY)


def actual(*extra, leased=True):
    members = (
        Member(name="m1", role=Role.STABLE, bundle=CHAMPION, health=Health.READY, port=9001, pid=101),
        Member(name="m2", role=Role.BASELINE, bundle=CHAMPION, health=Health.READY, port=9002, pid=102),
        *extra,
    )
    return Actual(serial=17, leased=leased, members=members, port=8080, admin_port=9901, envoy_pid=100,
                  heartbeat=boot_time())  # fmt: skip


def canary(health=Health.READY, **more):
    return Member(name="m3", role=Role.CANARY, bundle=CANARY, health=health, port=9003, pid=103, **more)


def release(phase, result=None, reason="", weight=0.0, seconds=180.0):
    return Release(id="r2", bundle=CANARY, champion=CHAMPION, phase=phase, result=result, reason=reason,
                   started=START.isoformat(), seconds=seconds, canary_weight=weight, terms=TERMS)  # fmt: skip


def idle():
    members = (Member(name="m1", role=Role.STABLE, bundle=CHAMPION, health=Health.READY, port=9001, pid=101),)
    return Status(champion=CHAMPION, previous="", controller_pid=1,
                  actual=actual().model_copy(update={"members": members}))  # fmt: skip


def mirroring():
    return Status(champion=CHAMPION, previous=OLD, release=release(Phase.MIRRORING, seconds=12.0),
                  actual=actual(canary(Health.STARTING)), controller_pid=1)  # fmt: skip


def ramping():
    return Status(champion=CHAMPION, previous=OLD, release=release(Phase.RAMPING, weight=0.16), decision=judged(),
                  actual=actual(canary()), per_second=120.0, controller_pid=1)  # fmt: skip


def held():
    reason = "The canary had no request for 61 s."
    return Status(champion=CHAMPION, previous=OLD, release=release(Phase.HELD, reason=reason, weight=0.04),
                  decision=judged(60), actual=actual(canary(), leased=False), controller_pid=1,
                  warnings=("No traffic: Envoy has answered nothing for 61 s.",))  # fmt: skip


def paused():
    release_ = release(Phase.HELD, reason="Ada: lunch", weight=0.04).model_copy(update={"paused": True})
    return held().model_copy(update={"release": release_, "warnings": ()})


def rolled_back():
    decision = judged(90, 0.05)
    ended = release(Phase.IDLE, Result.ROLLED_BACK, decision.sentence, seconds=90.0)
    failed = canary(Health.FAILED, restarts=3, reason="exit code 1: cannot allocate memory")
    return Status(champion=CHAMPION, previous=OLD, release=ended, decision=decision, actual=actual(failed),
                  controller_pid=1)  # fmt: skip


def watching():
    return Status(champion=CANARY, previous=CHAMPION, release=release(Phase.WATCHING, Result.PROMOTED),
                  decision=judged(), actual=actual(canary()), controller_pid=1)  # fmt: skip


def events(*bodies):
    """A ledger of the release, with a digest each that no one checks here."""
    found = []
    for seq, (kind, body) in enumerate(bodies, 1):
        sha256 = hashlib.sha256(json.dumps([seq, kind, body]).encode()).hexdigest()
        at = (START + timedelta(seconds=30 * (seq - 1))).isoformat()
        found.append(Event(seq=seq, at=at, kind=kind, actor="service", release="r2", body=body, sha256=sha256))
    return found


def ramp(last=0.16):
    """The ledger of a release whose weight grew so far."""
    weights = [weight for weight in WEIGHTS if weight <= last]
    return events(
        ("submitted", {"bundle": CANARY, "champion": CHAMPION, "reason": ""}),
        *(("weight", weighted(weight)) for weight in weights),
    )


def weighted(weight):
    """Body of an event that changes the weight."""
    plan = {"serial": 5, "release": "r2", "canary_weight": weight, "baseline_weight": weight, "mirror_share": 0.1}
    return {"reason": f"{percent(weight)}: Not yet proven: events.errors.", "plan": plan}


class Staged:
    """A control whose state the test sets; orders are written down in `orders`."""

    def __init__(self, status=None, ledger=()):
        self.now, self.ledger, self.orders = status or idle(), list(ledger), []
        self.broken = None

    def status(self):
        if self.broken:
            raise self.broken
        return self.now.model_copy(update={"actual": self.now.actual.model_copy(update={"heartbeat": boot_time()})})

    def events(self, after=0, limit=1000):
        return [event for event in self.ledger if event.seq > after][:limit]

    def add(self, bundle):
        """Keeps the names and the content of the files."""
        self.added = {file.name: file.read_bytes() for file in bundle.iterdir()}
        return CANARY

    def submit(self, bundle, actor, again=False):
        if bundle != CANARY:
            raise ConfigError(f"no bundle {bundle[:12]} in the registry", fix="add it")
        self.orders.append(("submit again" if again else "submit", actor))
        self.now = mirroring()
        return self.now.release

    def pause(self, actor, reason):
        return self._order("pause", actor, reason, paused)

    def resume(self, actor, reason):
        return self._order("resume", actor, reason, ramping)

    def roll_back(self, actor, reason):
        if self.now.release is None:
            raise ConfigError("there is nothing to roll back", fix="look at the status")
        return self._order("rollback", actor, reason, rolled_back)

    def promote(self, actor, reason):
        return self._order("promote", actor, reason, watching)

    def label(self, labels):
        self.orders.append(("label", dict(labels)))
        return len(labels) // 2

    def _order(self, name, actor, reason, scene):
        self.orders.append((name, actor, reason))
        self.now = scene()
        return self.status()
