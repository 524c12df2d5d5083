"""The calls of the API, and what each answers."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ci_tools.release.api import bodies, metrics, page, uploads
from ci_tools.release.api.answers import Call, Refused, answer, answering, unknown
from ci_tools.release.api.guard import Guard
from ci_tools.release.api.tail import Tail
from ci_tools.release.api.view import View, view
from ci_tools.release.control import Control, Status
from ci_tools.release.plan import Role, boot_time

STALE_SECONDS = 5.0
"""Age of the supervisor's last word after which the service does not count as alive."""
MOST_EVENTS = 1000
"""Of one answer."""


def application(control: Control, token: str | None, hosts: frozenset[str]) -> ASGIApp:
    """All calls behind the guard."""
    calls = _Calls(control)
    reading: dict[str, Call] = {
        "/": calls.page,
        "/news": calls.news,
        "/status": calls.status,
        "/events": calls.events,
        "/metrics": calls.metrics,
        "/healthz": calls.alive,
        "/readyz": calls.ready,
    }
    writing: dict[str, Call] = {
        "/bundles": calls.add,
        "/releases": calls.submit,
        "/pause": calls.order(control.pause),
        "/resume": calls.order(control.resume),
        "/rollback": calls.order(control.roll_back),
        "/promote": calls.order(control.promote),
        "/labels": calls.label,
    }
    routes = [Route(path, answering(call), methods=["GET"]) for path, call in reading.items()]
    routes += [Route(path, answering(call), methods=["POST"]) for path, call in writing.items()]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: unknown}), token, hosts)


class _Calls:
    """Each asks the control in a worker thread, so that a slow disk stops no other call."""

    def __init__(self, control: Control) -> None:
        self._control, self._tail = control, Tail(control)

    async def page(self, request: Request) -> Response:
        text = page.page(await run_in_threadpool(self._view))
        return HTMLResponse(text, headers={"content-security-policy": page.policy()})

    async def news(self, request: Request) -> Response:
        return answer(page.news(await run_in_threadpool(self._view)))

    async def status(self, request: Request) -> Response:
        return _status(await run_in_threadpool(self._control.status))

    async def events(self, request: Request) -> Response:
        after, limit = _number(request, "after", 0), min(_number(request, "limit", MOST_EVENTS), MOST_EVENTS)
        found = await run_in_threadpool(self._control.events, after, limit)
        return answer({"events": [event.model_dump(mode="json") for event in found]})

    async def metrics(self, request: Request) -> Response:
        status, seen = await run_in_threadpool(lambda: (self._control.status(), self._tail.look()))
        return Response(metrics.exposition(status, seen), media_type=metrics.TYPE)

    async def alive(self, request: Request) -> Response:
        alive = _alive(await run_in_threadpool(self._control.status))
        return answer({"alive": alive}, 200 if alive else 503)

    async def ready(self, request: Request) -> Response:
        status = await run_in_threadpool(self._control.status)
        ready = _alive(status) and bool(status.champion)
        return answer({"ready": ready}, 200 if ready else 503)

    async def add(self, request: Request) -> Response:
        with TemporaryDirectory(prefix="switchback-") as scratch:
            bundle = await uploads.unpacked(request, Path(scratch))
            digest = await run_in_threadpool(self._control.add, bundle)
        return answer({"bundle": digest}, 201)

    async def submit(self, request: Request) -> Response:
        wanted = await bodies.order(request, bodies.Submission)
        release = await run_in_threadpool(self._control.submit, wanted.bundle, wanted.actor, wanted.again)
        return answer(release.model_dump(mode="json"), 201)

    def order(self, act: Callable[[str, str], Status]) -> Call:
        async def ordered(request: Request) -> Response:
            wanted = await bodies.order(request, bodies.Order)
            return _status(await run_in_threadpool(act, wanted.actor, wanted.reason))

        return ordered

    async def label(self, request: Request) -> Response:
        labels = await bodies.labels(request)
        belonged = await run_in_threadpool(self._control.label, labels)
        return answer({"received": len(labels), "belonged": belonged})

    def _view(self) -> View:
        return view(self._control.status(), self._tail.look())


def _status(status: Status) -> Response:
    return answer(status.model_dump(mode="json"))


def _alive(status: Status) -> bool:
    """Whether the supervisor speaks, and a champion that there is answers: a restart would not bring the first one."""
    spoken = boot_time() - status.actual.heartbeat <= STALE_SECONDS
    return spoken and (not status.champion or status.actual.ready(Role.STABLE, status.champion))


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refused(422, f"{name}: must be a whole number of 0 or more", f"ask for /events?{name}=0")
    return int(text)
