"""A whole release service in a folder, as a drill needs it: started, asked, broken, and ended without a trace."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.release.observed import ACTOR, Observed, Unmet
from benchmarks.release.traffic import NAME, Traffic
from ci_tools.console import say
from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.client.follow import submit
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.plan import Member, Role
from ci_tools.release.registry import Registry
from ci_tools.release.supervisor import Settings
from ci_tools.release.supervisor.child import Child
from tests.release import graphs
from tests.release.server import bundles
from tests.release.server.running import free_port

POLICY = Policy.model_validate(
    {
        "events": {
            name: {"margin_ratio": 3.0, "margin_rate": 0.02} for name in ("errors", "timeouts", "invalid_outputs")
        },
        "latency": {"p95": {"quantile": 0.95, "tolerated_ratio": 1.5, "margin_ratio": 3.0}},
        "shift": None,
        "labels": None,
        "ramp": {"first": 0.1, "largest": 0.25, "step_seconds": 2.0, "damage": 50.0},
        "bin_seconds": 0.5,
        "min_seconds": 3.0,
        "deadline_seconds": 40.0,
        "no_traffic_seconds": 10.0,
        "watch_seconds": 2.0,
    }
)
"""A release that takes seconds, with margins that a busy machine keeps."""
CONTROLLER = {"mirror_seconds": 1.0, "mirror_per_second": 150.0, "ready_seconds": 20.0}
SUPERVISOR = {"settle_seconds": 0.2, "drain_seconds": 8.0, "failures": 3}
PATIENCE = 60.0
"""Seconds for the service to take the first bundle."""
PORTS = 5
"""Ports that are tried where others take them."""
MODULE = (sys.executable, "-m")


class Service(Observed):
    """One service, its bundles and its key."""

    def __init__(
        self, folder: Path, *, policy: Policy = POLICY, controller: dict[str, Any] | None = None,
        supervisor: dict[str, Any] | None = None, program: str = "ci_tools.release.controller",
        home: Path | None = None,
    ) -> None:  # fmt: skip
        """Nothing runs yet.

        Args:
            folder: where everything is put.
            policy: of its releases.
            controller: settings that differ from `CONTROLLER`.
            supervisor: settings that differ from `SUPERVISOR`.
            program: module that is the controller.
            home: of the service; by default inside of `folder`.
        """
        super().__init__(Home(home or folder / "service"))
        self.folder = folder
        self.home.path.mkdir(parents=True)
        self.key = signing_key(folder / "bundles" / "key.pem")
        self.trust = Trust(public_keys=(public_beside(self.key),))
        self.registry = Registry(self.home.bundles)
        self.port = free_port()
        self.faults: dict[str, str] = {}
        """By digest: what tests/release/faulty_server.py plants into that bundle's servers."""
        (folder / "policy.yaml").write_text(policy.model_dump_json(), encoding="utf-8")
        (folder / "controller.yaml").write_text(json.dumps(CONTROLLER | (controller or {})), encoding="utf-8")
        self._tell_faults()
        server = (*MODULE, "benchmarks.release.server", "--faults", self._faults, "--trust-key",
                  public_beside(self.key))  # fmt: skip
        lead = (*MODULE, program, "--home", self.home.path, "--policy", folder / "policy.yaml",
                "--settings", folder / "controller.yaml", "--trust-key", public_beside(self.key))  # fmt: skip
        commands = {"server_command": tuple(map(str, server)), "controller_command": tuple(map(str, lead))}
        self.settings = Settings.model_validate(commands | SUPERVISOR | (supervisor or {}))
        self._child: Child | None = None

    def bundle(self, label: str, fault: str = "", amount: float = 0.0, *, process: str = "") -> str:
        """A signed bundle in the registry; its digest.

        Args:
            label: makes it another bundle than those with the same graph.
            fault: of the graph, as tests/release/graphs.py knows them.
            amount: of that fault.
            process: fault of its servers, as tests/release/faulty_server.py knows them.
        """
        path = self.packed(label, graphs.risk(fault, amount))
        digest = self.registry.add(path, self.trust).digest
        if process:
            self.faults[digest] = process
            self._tell_faults()
        return digest

    def packed(self, label: str, graph: bytes | None = None, **changes: Any) -> Path:
        """A signed bundle outside of the registry."""
        return bundles.pack(self.folder / "bundles", graph, **{"name": NAME, "params_digest": label} | changes)

    @property
    def _faults(self) -> Path:
        return self.folder / "faults.json"

    def _tell_faults(self) -> None:
        self._faults.write_text(json.dumps(self.faults), encoding="utf-8")

    def start(self) -> None:
        """As systemd does."""
        words = (self.home.path, self.port, self.settings.model_dump_json())
        program = (*MODULE, "benchmarks.release.serve")
        self._child = Child([*program, *map(str, words)], self.folder / "supervisor.log")

    def install(self, digest: str) -> None:
        """Start, and make a bundle the first champion."""
        self._begin()
        # An answer that a busy disk keeps back for long is asked for again: the release is the same.
        submit(self.connection, digest, ACTOR, PATIENCE, say)
        self.until(lambda status: status.actual.ready(Role.STABLE, digest), "the first champion serves")

    def _begin(self) -> None:
        """Start until it answers. Between the choice of a port and Envoy's start another process may take that port:
        then with another one.

        Raises:
            Unmet: it ended for another reason, or does not answer.
        """

        def answers() -> bool:
            status = self.status()
            return status is not None and status.actual.envoy_pid > 0

        for _ in range(PORTS):
            self.start()
            self.hold(lambda: bool(self.ended) or answers(), "the service answers", pause=0.05)
            if not self.ended:
                return
            if " is taken" not in self.ended:
                break
            self.port = free_port()
        raise Unmet(f"the service ended: {self.ended}")

    def stop(self) -> str:
        """End it as systemd does; why it ended."""
        if self._child is None:
            return ""
        self._child.signal(signal.SIGTERM)
        self.hold(lambda: bool(self._child and self._child.ended()), "the service ends")
        return self._child.ended()

    def kill(self) -> None:
        """SIGKILL to the supervisor."""
        if self._child is not None:
            self._child.kill()

    @property
    def ended(self) -> str:
        """Why the supervisor ended; empty while it runs."""
        return self._child.ended() if self._child else ""

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._child.pid if self._child else 0

    def processes(self) -> list[psutil.Process]:
        """All whose command line names the home, but the one that asks."""
        found, home = [], str(self.home.path)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and any(home in word for word in process.cmdline()):
                    found.append(process)
        return found

    def children(self) -> list[psutil.Process]:
        """Of the supervisor, also where it has died."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if process.ppid() != os.getpid():
                    found.append(process)
        return found

    def controller_pid(self) -> int:
        """0 where none runs."""
        for process in self.processes():
            with suppress(psutil.Error):
                words = process.cmdline()
                if process.ppid() == self.pid and "--policy" in words:
                    return process.pid
        return 0

    def break_down(self, member: Member) -> None:
        """From now on every answer of that server fails."""
        if member.pid:
            os.kill(member.pid, signal.SIGUSR1)

    def crash(self, member: Member) -> None:
        """SIGKILL to a server."""
        if member.pid:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Service]:
    """A service whose first champion serves; with the block, it ends and leaves no process.

    Raises:
        Unmet: a process outlived the service.
    """
    service = Service(folder, **options)
    try:
        service.install(service.bundle("first"))
        yield service
        if not service.ended:
            service.stop()
    finally:
        service.kill()
        _, alive = psutil.wait_procs(service.processes(), timeout=10)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        service.forget()
        if alive:
            raise Unmet(f"{len(alive)} processes outlived the service")


@contextmanager
def under_traffic(
    folder: Path, rate: float, *, malformed: float = 0.0, **options: Any
) -> Iterator[tuple[Service, Traffic]]:
    """A service with requests on it."""
    with running(folder, **options) as service, Traffic(service.port, rate, folder, malformed=malformed) as traffic:
        yield service, traffic
