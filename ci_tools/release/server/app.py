"""The protocol over HTTP: paths, deadlines and limits, in granian's own interface (RSGI).

A name may hold slashes, and arrives with its escapes undone: paths are compared as a whole.
"""

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from granian.rsgi import HTTPProtocol, ProtocolClosed, ProtocolError, Scope  # type: ignore[attr-defined] # it has no __all__

import ci_tools
from ci_tools.harmless import one_line
from ci_tools.release.server import response
from ci_tools.release.server.batching import Batching
from ci_tools.release.server.flights import Flight, Flights
from ci_tools.release.server.metrics import CONTENT_TYPE, Metrics
from ci_tools.release.server.model import Model
from ci_tools.release.server.predictions import Prediction, PredictionLog
from ci_tools.release.server.refusal import Refusal, bad, busy, late, shown
from ci_tools.release.server.request import HEADER, Reader, Request
from ci_tools.release.server.tensors import Array

TIMEOUT_HEADER = "x-request-timeout-ms"
_LONGEST_ID = 128
Answer = tuple[int, response.Headers, bytes]


class App:
    """One model behind the protocol."""

    def __init__(
        self,
        model: Model,
        digest: str,
        batching: Batching,
        metrics: Metrics,
        log: PredictionLog | None,
        *,
        timeout_ms: float,
        body_bytes: int,
    ) -> None:
        self.flights, self.draining, self.closed = Flights(), False, False
        self._model, self._batching, self._metrics, self._log = model, batching, metrics, log
        self._timeout_ms, self._body_bytes = timeout_ms, body_bytes
        self._reader, self._writer = Reader(model.manifest), response.Writer(model.manifest, digest)
        self._ids = map(f"{secrets.token_hex(6)}-{{}}".format, itertools.count())
        self._gets: dict[str, Callable[[], Answer]] = {}
        self._infers: set[str] = set()
        self._route(model.manifest.name, digest)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Answer one request."""
        if scope.path in self._infers and scope.method == "POST":
            status, headers, body = await self._infer(scope, protocol)
        else:
            status, headers, body = self._get(scope)
        if self.draining:
            headers = [*headers, ("connection", "close")]  # the next request finds another server
        try:
            protocol.response_bytes(status, headers, body)
        except (ProtocolClosed, ProtocolError):
            return  # the client has gone

    def _route(self, name: str, digest: str) -> None:
        ready = {
            True: (200, [response.JSON], response.ready(True)),
            False: (503, [response.JSON], response.ready(False)),
        }
        server = (200, [response.JSON], response.server_metadata(ci_tools.__version__))
        about = (200, [response.JSON], response.model_metadata(self._model.manifest, digest))
        model_ready = {
            True: (200, [response.JSON], response.model_ready(name, True)),
            False: (503, [response.JSON], response.model_ready(name, False)),
        }
        self._gets = {
            "/v2": lambda: server,
            "/v2/": lambda: server,
            "/v2/health/live": lambda: (200, [response.JSON], response.LIVE),
            "/v2/health/ready": lambda: ready[not self.draining],
            "/metrics": self._render_metrics,
        }
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{digest}"):
            self._gets[path] = lambda: about
            self._gets[f"{path}/ready"] = lambda: model_ready[not self.draining]
            self._infers.add(f"{path}/infer")

    def _get(self, scope: Scope) -> Answer:
        found = self._gets.get(scope.path)
        allowed = "GET" if found else "POST" if scope.path in self._infers else ""
        if found and scope.method == "GET":
            return found()
        if allowed:
            sentence = f"{scope.path} takes {allowed}, got {shown(scope.method)}"
            return 405, [response.JSON, ("allow", allowed)], response.error(sentence)
        known = f"the model here is {self._model.manifest.name!r}"
        return 404, [response.JSON], response.error(f"no such path {shown(scope.path)}; {known}")

    async def _infer(self, scope: Scope, protocol: HTTPProtocol) -> Answer:
        headers = scope.headers
        identity = headers.get("x-request-id", "")[:_LONGEST_ID] or next(self._ids)
        came = time.time()
        flight = Flight(identity, is_mirror(headers.get("host", "")), self._timeout_ms)
        outputs: dict[str, Array] | None = None
        asked = False
        self.flights.begin(flight)
        try:
            if self.closed:
                raise busy("the server is going down")
            if limit := headers.get(TIMEOUT_HEADER):
                flight.limit_ms = min(deadline_ms(limit), self._timeout_ms)
            request = self._reader.read(await self._body(headers, protocol), headers.get(HEADER))
            asked = True
            outputs = await self._batching.submit(request.inputs, request.rows)
            answer = self._answered(request, outputs)
        except asyncio.CancelledError:
            if not flight.expired:
                raise
            answer = _refused(late(flight.limit_ms))
        except Refusal as refusal:
            asked = asked and refusal.status != 503
            answer = _refused(refusal)
        except Exception as error:
            sys.stderr.write(f"unexpected in request {one_line(identity)}: {one_line(repr(error))}\n")
            answer = _refused(Refusal(500, "the server failed"))
        finally:
            self.flights.end(flight)
        self._count(answer, flight.ms)
        if asked and self._log is not None:
            scores = self._model.scores(outputs) if outputs is not None else None
            self._log.add(Prediction(identity, came, flight.mirror, scores, flight.ms))
        return answer

    async def _body(self, headers: Any, protocol: HTTPProtocol) -> bytes:
        """The whole body, not one byte more than may be.

        Raises:
            Refusal: 413 where it is too large, 400 where it breaks off.
        """
        size = headers.get("content-length")
        try:
            if size is not None:
                if int(size) > self._body_bytes:
                    raise self._too_large()
                whole: bytes = await protocol()
                return whole
            chunks, length = [], 0
            async for chunk in protocol:
                chunks.append(chunk)
                length += len(chunk)
                if length > self._body_bytes:
                    raise self._too_large()
            return b"".join(chunks)
        except (ProtocolClosed, ProtocolError):
            raise bad("the body breaks off") from None

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body may have {self._body_bytes} bytes", (("connection", "close"),))

    def _answered(self, request: Request, outputs: dict[str, Array]) -> Answer:
        headers, body = self._writer.write(request, outputs)
        return 200, headers, body

    def _count(self, answer: Answer, milliseconds: float) -> None:
        self._metrics.statuses[answer[0]] += 1
        self._metrics.seconds.observe(milliseconds / 1e3)
        if answer[0] == 500 and any(key == "x-switchback-event" for key, _ in answer[1]):
            self._metrics.invalid_outputs += 1

    def _render_metrics(self) -> Answer:
        dropped = self._log.dropped if self._log else 0
        text = self._metrics.render(waiting=self._batching.waiting, in_flight=len(self.flights), dropped=dropped)
        return 200, [CONTENT_TYPE], text


def is_mirror(host: str) -> bool:
    """Whether Envoy sent a copy: it puts `-shadow` behind the host's name, before the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).endswith("-shadow")


def deadline_ms(value: str) -> float:
    """The request's own deadline.

    Raises:
        Refusal: 400, it is no positive number of milliseconds.
    """
    if not (value.isascii() and value.isdecimal() and len(value) < 16 and int(value) > 0):
        raise bad(f"header {TIMEOUT_HEADER} must be a whole number of milliseconds from 1, got {shown(value)}")
    return float(value)


def _refused(refusal: Refusal) -> Answer:
    return refusal.status, [response.JSON, *refusal.headers], response.error(refusal.sentence)
