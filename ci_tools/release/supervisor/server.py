"""One model server: started, asked whether it is ready, restarted when it ends or hangs, given up at last."""

import asyncio
import os
import signal
import socket
from collections import deque
from pathlib import Path
from random import SystemRandom

from ci_tools.errors import SwitchbackError
from ci_tools.release.home import Home
from ci_tools.release.plan import Health, Member, Role, boot_time
from ci_tools.release.supervisor.child import Child
from ci_tools.release.supervisor.http import Unanswered, ask
from ci_tools.release.supervisor.settings import Settings
from ci_tools.release.traffic.routing import Backend

LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 32_768)
"""Below those that the kernel gives to outgoing connections, one of which could take a port between two starts."""
_REFUSED = 2
"""Exit code of a server that refuses its bundle: it would the next time too."""
_WHILE_STARTING = 0.05
"""Seconds between two questions to a server that was never ready."""


class Server:
    """A member, with its process."""

    def __init__(self, name: str, role: Role, bundle: str, home: Home, settings: Settings) -> None:
        self.name, self.role, self.bundle = name, role, bundle
        self._home, self._settings = home, settings
        self.health = Health.STARTING
        self.proven = False
        """Whether it was ready once, and was not given up since."""
        self.port, self.restarts, self.reason = 0, 0, ""
        self._child: Child | None = None
        self._started = self._due = boot_time()
        self._ends: deque[float] = deque(maxlen=settings.failures)
        self._silent = 0
        self._stopping = 0.0

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._child.pid if self._child else 0

    @property
    def member(self) -> Member:
        """As actual.json tells it."""
        return Member(
            name=self.name,
            role=self.role,
            bundle=self.bundle,
            health=self.health,
            port=self.port,
            pid=self.pid,
            restarts=self.restarts,
            reason=self.reason,
        )

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever `member` does."""
        return self.name, self.role, self.health, self.port, self.pid, self.restarts

    @property
    def backend(self) -> Backend:
        """As traffic sees it."""
        ready = self.health is Health.READY
        return Backend(role=self.role, bundle=self.bundle, port=self.port, ready=ready, proven=self.proven)

    def tend(self, taken: set[int]) -> None:
        """Start it if that is due, notice its end. `taken`: ports that other members have."""
        if self._child is None:
            if self.health is Health.STARTING and boot_time() >= self._due:
                self._start(taken)
            return
        if ended := self._child.ended():
            refused = self._child.exit_code == _REFUSED and not self.proven
            self._child = None
            if self.health is not Health.DRAINING:
                self._ended(ended, refused)
        elif self.health is Health.STARTING and boot_time() - self._started > self._settings.start_seconds:
            self._abandon(f"was not ready {self._settings.start_seconds:g} s after its start")

    def answered(self, ready: bool) -> None:
        """It was asked whether it is ready."""
        if ready:
            self._silent = 0
            if self.health is Health.STARTING and self._child is not None:
                self.health, self.proven = Health.READY, True
        elif self.health is Health.READY:
            self._silent += 1
            if self._silent >= self._settings.probes:
                self._abandon(f"did not answer {self._silent} health checks in a row")

    def weigh(self) -> None:
        """End it if it takes more memory than it may."""
        if self._child is None or self.health is Health.DRAINING:
            return
        used = _megabytes(self.pid)
        if used > self._settings.server_megabytes:
            self._abandon(f"used {used} MB of memory, {self._settings.server_megabytes} are allowed")

    def drain(self) -> None:
        """It gets no new requests from now on."""
        self.health = Health.DRAINING

    def stop(self) -> None:
        """Ask it to end, and after a while make it."""
        if self._child is None:
            return
        if not self._stopping:
            self._stopping = boot_time()
            self._child.signal(signal.SIGTERM)
        elif boot_time() - self._stopping > self._settings.drain_seconds:
            self._child.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _start(self, taken: set[int]) -> None:
        self._started, self._silent = boot_time(), 0
        try:
            if not self.proven or not is_free(LOOPBACK, self.port):
                self.port = free_port(taken)
            self._child = Child(self._command(), server_log(self._home, self.name), expendable=True)
        except (SwitchbackError, OSError) as error:
            self._ended(f"could not be started: {error}", refused=False)

    def _command(self) -> list[str]:
        arguments = {
            "--bundle": self._home.bundles / self.bundle,
            "--member": self.name,
            "--port": self.port,
            "--predictions": self._home.predictions(self.name),
        }
        return [*self._settings.server_command, *(str(part) for pair in arguments.items() for part in pair)]

    def _abandon(self, why: str) -> None:
        """It runs, but is of no use."""
        self.kill()
        self._ended(why, refused=False)

    def _ended(self, why: str, refused: bool) -> None:
        now = boot_time()
        self.reason = why
        self.restarts += 1
        self._ends.append(now)
        lately = sum(now - at < self._settings.failure_seconds for at in self._ends)
        if self.role is not Role.STABLE and (refused or lately >= self._settings.failures):
            self.health, self.proven = Health.FAILED, False
            return
        wait = self._settings.backoff_seconds * 2.0 ** (lately - 1)
        self.health, self._due = Health.STARTING, now + min(wait, self._settings.longest_backoff_seconds)

    async def watch(self) -> None:
        """Ask it again and again whether it is ready, until it drains or is given up."""
        while self.health in (Health.STARTING, Health.READY):
            if self._child is not None:
                child = self._child
                ready = await is_ready(self.port, self._settings.probe_seconds)
                if self._child is child:
                    self.answered(ready)
                    self.weigh()
            await asyncio.sleep(_WHILE_STARTING if self.health is Health.STARTING else self._settings.probe_seconds)


async def is_ready(port: int, seconds: float) -> bool:
    """Whether the server on that port says within that time that it is ready."""
    try:
        status, _ = await ask(port, "/v2/health/ready", seconds=seconds)
    except Unanswered:
        return False
    return status == 200


def server_log(home: Home, name: str) -> Path:
    """What a model server writes."""
    return home.access_log.with_name(f"server-{name}.log")


def free_port(taken: set[int]) -> int:
    """A port on loopback that nobody has.

    Raises:
        SwitchbackError: there is none.
    """
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        if port not in taken and is_free(LOOPBACK, port):
            return port
    raise SwitchbackError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}", where="supervisor")


def is_free(address: str, port: int) -> bool:
    """Whether a server can listen there."""
    return refusal(address, port) is None


def refusal(address: str, port: int) -> OSError | None:
    """Why no server can listen there; None: it can."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def _megabytes(pid: int) -> int:
    """Resident memory of a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except (OSError, IndexError):
        return 0
