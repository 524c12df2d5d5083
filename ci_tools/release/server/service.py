"""From settings to a server that listens, and back to nothing: load, listen, drain, end."""

import asyncio
import errno
import os
import signal
import socket
import sys
import time

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from ci_tools.errors import DependencyUnavailable, SwitchbackError
from ci_tools.release.bundle import Bundle
from ci_tools.release.server import memory
from ci_tools.release.server.app import App
from ci_tools.release.server.batching import Batching, Ran
from ci_tools.release.server.loading import load
from ci_tools.release.server.metrics import Metrics
from ci_tools.release.server.model import Model
from ci_tools.release.server.predictions import PredictionLog
from ci_tools.release.server.settings import Settings

SETTLE_SECONDS = 0.2
"""Without a request for that long, a draining server has none to expect."""
_SWITCH_SECONDS = 0.001
"""How long one thread may keep the interpreter from the other; Python's own 5 ms would be seen in the latency."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 1 where requests were cut off.

    Raises:
        SwitchbackError: the bundle is refused, or the port, the device or the log cannot be had.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    if settings.memory_mb:
        memory.watch(settings.memory_mb, lambda why: _end_now(settings, why, 1))
    bundle = load(settings)
    model = Model(bundle.content, bundle.manifest, device=settings.device, threads=settings.threads)
    _check_port(settings)
    log = None
    if settings.predictions is not None:
        log = PredictionLog(settings.predictions, bundle.digest, rotate_bytes=settings.rotate_bytes)
    try:
        return asyncio.run(_Service(settings, bundle, model, log).run())
    finally:
        if log is not None:
            log.close()


class _Service:
    """What runs in the loop."""

    def __init__(self, settings: Settings, bundle: Bundle, model: Model, log: PredictionLog | None) -> None:
        self._settings, self._digest = settings, bundle.digest
        metrics = Metrics(member=settings.member, model=bundle.manifest.name, digest=bundle.digest)

        def ran(batch: Ran) -> None:
            metrics.batch_rows.observe(batch.rows)
            metrics.batch_seconds.observe(batch.seconds)

        delay, rows = settings.batch_delay_ms / 1e3, settings.batch_rows
        self._batching = Batching(model, rows=rows, delay=delay, limit=settings.queue, ran=ran)
        self._app = App(
            model,
            bundle.digest,
            self._batching,
            metrics,
            log,
            timeout_ms=settings.timeout_ms,
            body_bytes=settings.body_bytes,
        )
        self._asked_to_end = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._batching.start(loop)
        server = Server(
            self._app,
            address=self._settings.host,
            port=self._settings.port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=10_000),
            backlog=1024,
            backpressure=1 << 16,  # the queue is the limit: whoever exceeds it is told so
            websockets=False,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        ending = asyncio.create_task(self._asked_to_end.wait())
        await self._listening(serving)
        await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            raise SwitchbackError("the HTTP server ended by itself", where=f"server {self._settings.member}")
        cut_off = await self._drain()
        server.stop()  # type: ignore[no-untyped-call] # it has no types
        await serving
        self._batching.stop()
        told = f"drained, {cut_off} requests were cut off" if cut_off else "drained, every request was answered"
        say(self._settings, told)
        return 1 if cut_off else 0

    async def _listening(self, serving: "asyncio.Task[None]") -> None:
        """Say that the port is open, once it is."""
        host, port = self._settings.host, self._settings.port
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.005)
            else:
                writer.close()
                say(self._settings, f"ready on {host}:{port}, bundle {self._digest[:12]}")
                return

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._asked_to_end.is_set():
            _end_now(self._settings, f"second {name}: ends at once", 128 + number)
        self._app.draining = True
        self._asked_to_end.set()
        say(self._settings, f"{name}: drains, {len(self._app.flights)} requests are under way")

    async def _drain(self) -> int:
        """Wait for requests under way; returns how many had to be given up.

        Requests that still come are answered, too: whoever sends them may not know yet.
        """
        flights, now = self._app.flights, time.monotonic()
        closes = now + self._settings.drain_seconds
        gives_up = closes + self._settings.timeout_ms / 1e3
        quiet_since = now
        while (now := time.monotonic()) < gives_up:
            if now >= closes:
                self._app.closed = True
            if len(flights):
                quiet_since = now
            elif now - quiet_since >= SETTLE_SECONDS or self._app.closed:
                break
            await asyncio.sleep(0.01)
        return len(flights)


def say(settings: Settings, sentence: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"server {settings.member}: {sentence}\n")
    sys.stderr.flush()


def _end_now(settings: Settings, why: str, code: int) -> None:
    say(settings, why)
    os._exit(code)


def _check_port(settings: Settings) -> None:
    """The HTTP server would share the port with another that shares it, and say nothing.

    Raises:
        DependencyUnavailable: it is taken, or belongs to no address of this machine; another start may find it free.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            what = f"{settings.host}:{settings.port} cannot be had ({error.strerror})"
            fix = "end the process that has it, or use another" if error.errno == errno.EADDRINUSE else ""
            raise DependencyUnavailable(what, where=f"--port {settings.port}", fix=fix) from None
