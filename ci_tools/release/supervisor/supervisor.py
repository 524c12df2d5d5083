"""The parent of all that serves: it makes what runs equal to what the plan says, and returns traffic when nobody leads.

    every 10 ms: look at plan and lease ─▶ assign roles ─▶ tend the children ─▶ publish routes ─▶ tell (actual.json)

It judges nothing and keeps no history. Its children die with it.
"""

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from itertools import count

from ci_tools.console import say
from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.files import write_atomic
from ci_tools.lock import Taken, alone
from ci_tools.release.home import Home
from ci_tools.release.plan import Actual, Health, boot_time
from ci_tools.release.supervisor import announcing, logs
from ci_tools.release.supervisor.controller import Controller
from ci_tools.release.supervisor.envoy import Envoy
from ci_tools.release.supervisor.pool import assign
from ci_tools.release.supervisor.server import Server
from ci_tools.release.supervisor.settings import Settings
from ci_tools.release.supervisor.wishes import Wishes
from ci_tools.release.traffic.routing import route

_AGAIN = 0.25
"""Seconds until a write that failed is tried again."""


class Supervisor:
    """One release service's servers, Envoy and controller."""

    def __init__(self, home: Home, *, port: int, settings: Settings | None = None) -> None:
        """`port` is that of the clients' listener."""
        self.home, self.settings = home, settings or Settings()
        self.envoy = Envoy(home, port, self.settings)
        self.wishes = Wishes(home)
        self.servers: list[Server] = []
        self.controller = Controller(home, self.settings)
        self._state: tuple[object, ...] = ()
        self._names = count()
        self._watches: set[asyncio.Task[None]] = set()
        self._unreachable: dict[str, float] = {}
        self._since = 0.0
        self._retry = self._told = 0.0
        self._complaints: dict[str, str] = {}
        self._stop = asyncio.Event()
        self._broken: BaseException | None = None

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, then drain; a second signal ends everything at once.

        Raises:
            ConfigError: the home has another supervisor, or the port is taken.
            DependencyUnavailable: Envoy is not installed.
            SwitchbackError: Envoy does not start.
        """
        self.home.access_log.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(self.home):
            self.home.actual.unlink(missing_ok=True)  # its members died with the supervisor before
            self._names = count(logs.newest(self.home) + 1)
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                loop.add_signal_handler(number, self._asked_to_stop)
        try:
            await self.envoy.begin()
            self._watch(self.envoy.watch())
            self._watch(self._announced())
            while not self._stop.is_set():
                self._look()
                await asyncio.sleep(self.settings.poll_seconds)
            if self._broken is not None:
                raise self._broken
            self._stop.clear()
            ending = asyncio.create_task(self._drain())
            await asyncio.wait({ending, asyncio.create_task(self._stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
        finally:
            self._kill()

    async def _announced(self) -> None:
        port = self.envoy.port
        for line in announcing.addresses(self.home, self.settings, port):
            say(line)
        url = announcing.address(self.settings, port)
        await announcing.announce(
            self.home, url, lambda: self.wishes.plan, lambda: [server.member for server in self.servers]
        )

    def _asked_to_stop(self) -> None:
        self._stop.set()

    def _look(self) -> None:
        """One round."""
        self.wishes.look()
        self._complain("wishes", self.wishes.problem)
        self._assign()
        for server in self.servers:
            server.tend({other.port for other in self.servers if other is not server} | {self.envoy.port})
        self.envoy.tend()
        self.controller.tend()
        self._publish()
        self._retire()
        self._tell()

    def _assign(self) -> None:
        plan = self.wishes.plan
        if plan is None:
            return
        assignment = assign(plan.pools, self.servers)
        for server in self.servers:
            server.role = assignment.roles.get(server.name, server.role)
            if server.name in assignment.leftover:
                server.drain()
        for role in assignment.missing:
            server = Server(f"m{next(self._names)}", role, plan.pools[role], self.home, self.settings)
            self.servers.append(server)
            self._watch(server.watch())
            logs.remove_old(self.home, {one.name for one in self.servers})

    def _publish(self) -> None:
        """Give Envoy what it should have, if it has not."""
        files, now = self.envoy.files, boot_time()
        backends = [server.backend for server in self.servers if server.health is not Health.DRAINING]
        wanted = route(self.wishes.plan, backends, leased=self.wishes.leased)
        if wanted == files.published or now < self._retry:
            return
        before = files.published
        try:
            files.publish(wanted)
        except (OSError, SwitchbackError) as error:
            self._retry = now + _AGAIN
            self._complain("envoy", f"Envoy's files cannot be written: {error}")
        else:
            self._complain("envoy", "")
        if (before.serial, before.leased) != (files.published.serial, files.published.leased):
            self._since = boot_time()

    def _retire(self) -> None:
        """End the servers that nobody needs, once Envoy has had time to stop sending them requests."""
        now, reachable = boot_time(), self.envoy.files.published.ports
        for server in list(self.servers):
            if server.health is not Health.DRAINING:
                continue
            if server.port in reachable:
                self._unreachable.pop(server.name, None)
            elif not server.pid:
                self.servers.remove(server)
                self._unreachable.pop(server.name, None)
            elif now - self._unreachable.setdefault(server.name, now) >= self.settings.settle_seconds:
                server.stop()

    def _tell(self) -> None:
        """Write actual.json, if it changed or is due."""
        now = boot_time()
        state = (self.envoy.files.published, self.envoy.pid, *(server.state for server in self.servers))
        beat = now - self._told >= self.settings.heartbeat_seconds
        if not beat and state == self._state:
            return
        if beat:
            self._complain("access log", self.envoy.reopen_log())
            logs.shorten(self.home)
        self._told, self._state = now, state
        published = self.envoy.files.published
        actual = Actual(
            serial=published.serial,
            leased=published.leased,
            since=self._since,
            members=tuple(server.member for server in self.servers),
            port=self.envoy.port,
            admin_port=self.envoy.admin_port,
            envoy_pid=self.envoy.pid,
            envoy_restarts=self.envoy.restarts,
            heartbeat=now,
        )
        try:
            write_atomic(self.home.actual, actual.model_dump_json(), durable=False)
        except SwitchbackError as error:
            self._complain("actual", f"cannot be written: {error}")
        else:
            self._complain("actual", "")

    async def _drain(self) -> None:
        """End everything in the order in which nothing is lost: who plans, who sends, who answers."""
        self.controller.ask_to_end()
        await self.envoy.drain()
        until = boot_time() + self.settings.drain_seconds
        for server in self.servers:
            server.drain()
        while any(server.pid for server in self.servers) or self.controller.pid:
            for server in self.servers:
                server.stop()
                server.tend(set())
            self.controller.reap()
            if boot_time() > until:
                return
            await asyncio.sleep(self.settings.poll_seconds)

    def _kill(self) -> None:
        """Whatever still runs ends now."""
        for task in self._watches:
            task.cancel()
        self.envoy.kill()
        self.controller.kill()
        for server in self.servers:
            server.kill()

    def _watch(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._watches.add(task)
        task.add_done_callback(self._watched)

    def _watched(self, task: asyncio.Task[None]) -> None:
        """A watch that ends with an error ends the service: without it, a hanging server would go unnoticed."""
        self._watches.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self._stop.set()

    def _complain(self, about: str, what: str) -> None:
        """Say what is wrong, once; and once that it is over."""
        if what == self._complaints.get(about, ""):
            return
        self._complaints[about] = what
        say(what or f"{about}: in order again")


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home against other supervisors.

    Raises:
        ConfigError: another one has it.
    """
    try:
        with alone(home.path / "supervisor.lock", f"process {os.getpid()}"):
            yield
    except Taken as taken:
        what = f"a release service already runs here, as {taken.owner}"
        raise ConfigError(what, where=home.path, fix="use that one, or end it first") from None
