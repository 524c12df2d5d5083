"""A release service in which all but the controller is simulated: real files, virtual time, traffic with known truth.

The supervisor's, Envoy's and the servers' part is played by `Fleet.step`: it obeys plan.json under lease.json, writes
actual.json, and appends what it makes of each request to the access log and the prediction logs.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from ci_tools.release.bundle.manifest import Decision, Manifest, Tensor
from ci_tools.release.controller import Controller, Settings, Surroundings, bundles
from ci_tools.release.home import Home
from ci_tools.release.plan import Actual, Health, Lease, Member, Plan, Role

TICK = 0.25
POLICY = """
events:
  errors: { margin_ratio: 2.0, margin_rate: 0.05 }
  timeouts: { margin_ratio: 2.0, margin_rate: 0.05 }
  invalid_outputs: { margin_ratio: 2.0, margin_rate: 0.05 }
latency:
  p50: { quantile: 0.5, tolerated_ratio: 1.1, margin_ratio: 3.0 }
flips: { tolerated: 0.02, margin: 0.1 }
ramp: { first: 0.1, largest: 0.25, step_seconds: 2.0, damage: 1000.0 }
bin_seconds: 1.0
min_seconds: 5.0
deadline_seconds: 45.0
no_traffic_seconds: 5.0
watch_seconds: 15.0
"""
SETTINGS = Settings(mirror_seconds=1.0, mirror_copies=20, mirror_per_second=40.0, ready_seconds=10.0,
                    save_seconds=0.5, answer_seconds=6.0)  # fmt: skip


@dataclass
class VirtualClock:
    """Boot time that a test moves, and a calendar that it may move apart from it."""

    at: float = 1000.0
    boot: str = "boot-1"
    jump: float = 0.0

    def now(self):
        return self.at

    def wall(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at + self.jump)


@dataclass
class Truth:
    """What the candidate is like."""

    errors: float = 0.0
    hangs: float = 0.0
    """Share of its requests that are answered by a timeout only."""
    slower: float = 1.0
    flips: float = 0.0
    dull: bool = False
    """Its scores lie close to one half, on the champion's side of it: the same decisions, less well founded."""
    invalid: bool = False
    """No answer of it is valid."""
    failed: str = ""
    """Why its server cannot be kept running."""
    starting: bool = False


@dataclass
class Fleet:
    """Everything but the controller."""

    home: Home
    rate: float = 160.0
    truth: Truth = field(default_factory=Truth)
    clock: VirtualClock = field(default_factory=VirtualClock)
    logging: bool = True
    supervised: bool = True
    timeout: float = 2.0
    """Seconds that a request that hangs takes."""
    envoy_restarts: int = 0
    champion_failed: str = ""

    def __post_init__(self):
        self.rng = np.random.default_rng(7)
        self.answered, self.count, self.actual = 0, 0, Actual()
        self.names, self.late = {}, []
        self.served, self.paired = dict.fromkeys(Role, 0), 0
        (self.home.path / "logs").mkdir(parents=True, exist_ok=True)
        self.policy = self.home.path / "release.yaml"
        self.policy.write_text(POLICY)

    def controller(self, settings=SETTINGS):
        return Controller(self.home, Surroundings(policy=self.policy, settings=settings, clock=self.clock,
                                                  ask=lambda actual: self.answered,
                                                  verify=bundles.manifest))  # fmt: skip

    def bundle(self, created, threshold=0.5, **changes):
        """Put a bundle into the registry; returns its digest."""
        tensor = Tensor(name="x", datatype="FP32", shape=(-1, 3))
        out = Tensor(name="score", datatype="FP32", shape=(-1, 1))
        values = {"name": "model", "created": created, "git_commit": "", "params_digest": "", "record_digest": "",
                  "verdicts_digest": "", "files": {}, "inputs": (tensor,), "outputs": (out,),
                  "decision": Decision(output="score", threshold=threshold), **changes}  # fmt: skip
        raw = Manifest(**values).model_dump_json().encode()
        digest = hashlib.sha256(raw).hexdigest()
        (self.home.bundles / digest).mkdir(parents=True, exist_ok=True)
        (self.home.bundles / digest / "manifest.json").write_bytes(raw)
        return digest

    def step(self, seconds=TICK):
        """Let time pass: obey, serve, write."""
        self.clock.at += seconds
        if not self.supervised:
            return
        plan = _read(self.home.plan, Plan)
        lease = _read(self.home.lease, Lease)
        if plan is None:
            return
        leased = lease is not None and lease.serial == plan.serial and lease.until > self.clock.at
        members = tuple(self._member(role, bundle) for role, bundle in plan.pools.items())
        self.actual = Actual(serial=plan.serial, leased=leased, members=members, port=1, envoy_pid=1,
                             envoy_restarts=self.envoy_restarts, heartbeat=self.clock.at)  # fmt: skip
        self.home.actual.write_text(self.actual.model_dump_json())
        self._serve(plan if leased else plan.safe(), leased, round(self.rate * seconds))

    def _member(self, role, bundle):
        # A server keeps its process, whatever its role becomes.
        key = (bundle, role is Role.BASELINE)
        name = self.names.setdefault(key, f"m{len(self.names) + 1}")
        health, reason = Health.READY, ""
        if role is Role.CANARY and self.truth.failed:
            health, reason = Health.FAILED, self.truth.failed
        elif role is Role.CANARY and self.truth.starting:
            health = Health.STARTING
        elif role is Role.STABLE and self.champion_failed == bundle:
            health, reason = Health.FAILED, "exit code 1: out of memory"
        return Member(name=name, role=role, bundle=bundle, health=health, port=1, pid=1, reason=reason)

    def _serve(self, plan, leased, requests):
        access, predictions = [], {}
        ready = {one.role: one for one in self.actual.members if one.health is Health.READY}
        for _ in range(requests):
            self.count += 1
            self.answered += 1
            id_, draw, mirrored = f"q{self.count}", self.rng.random(), self.rng.random() < plan.mirror_share
            canary, baseline = plan.canary_weight, plan.baseline_weight
            arm = Role.CANARY if draw < canary else Role.BASELINE if draw < canary + baseline else Role.STABLE
            self.served[arm] += 1
            score = float(self.rng.random())
            line = self._line(plan, leased, id_, arm)
            hung = line["code"] == 504
            (self.late if hung else access).append((self.clock.at + self.timeout, line))
            if arm in ready and line["code"] == 200:
                predictions.setdefault(ready[arm].name, []).append(
                    self._prediction(id_, ready[arm], score, arm is Role.CANARY, False)
                )
            if mirrored and arm is not Role.CANARY and Role.CANARY in ready:
                self.paired += line["code"] == 200
                predictions.setdefault(ready[Role.CANARY].name, []).append(
                    self._prediction(id_, ready[Role.CANARY], score, True, True)
                )
        due = [line for at, line in self.late if at <= self.clock.at]
        self.late = [(at, line) for at, line in self.late if at > self.clock.at]
        if self.logging:
            _append(self.home.access_log, [*(line for _, line in access), *due])
        for name, lines in predictions.items():
            _append(self.home.predictions(name), lines)

    def _line(self, plan, leased, id_, arm):
        canary = arm is Role.CANARY
        failed = self.rng.random() < (self.truth.errors if canary else 0.01)
        hung = canary and self.rng.random() < self.truth.hangs
        ms = (
            1000 * self.timeout
            if hung
            else float(np.exp(self.rng.normal(2, 0.2))) * (self.truth.slower if canary else 1.0)
        )
        code, event = (504 if hung else 500 if failed else 200), ""
        if canary and self.truth.invalid and not hung:
            code, event = 500, "invalid_outputs"
        return {"id": id_, "t": self.clock.at, "route": f"{plan.serial}" if leased else f"{plan.serial}-safe",
                "arm": arm.value, "code": code, "flags": "UT" if hung else "", "attempts": 1, "us": ms * 1000, "ms": ms,
                "event": event}  # fmt: skip

    def _prediction(self, id_, member, score, canary, mirror):
        if canary:
            score = 0.5 + (score - 0.5) / 10 if self.truth.dull else score
            score = None if self.truth.invalid else 1 - score if self.rng.random() < self.truth.flips else score
        scores = None if score is None else [score]
        return {"id": id_, "t": self.clock.at, "bundle": member.bundle, "mirror": mirror, "scores": scores, "ms": 1.0}


def play(fleet, controller, until, seconds=120.0):
    """Let both run until a condition on the status holds; returns the status."""
    end = fleet.clock.at + seconds
    while fleet.clock.at < end:
        fleet.step()
        controller.tick()
        status = controller.status()
        if until(status):
            return status
    raise AssertionError(f"not within {seconds} s: {status.release} {status.decision and status.decision.sentence}")


def kinds(controller):
    """Of the ledger's events."""
    return [event.kind for event in controller.events()]


def installed(fleet):
    """A controller with a first champion, and a candidate's digest."""
    controller = fleet.controller()
    controller.submit(fleet.bundle("first"), "ann")
    for _ in range(4):
        fleet.step()
        controller.tick()
    return controller, fleet.bundle("second")


def _read(path, model):
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


def _append(path, lines):
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
