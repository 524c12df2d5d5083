"""The control API and the status page of a release service, over HTTP.

    app(control)                  # for the Unix socket: who may open the file may call
    app(control, token="…")       # for loopback TCP: /healthz and /readyz alone need no token

| call | answer |
|---|---|
| GET / | the status page |
| GET /status, /events?after= | `control.Status`; the ledger's events behind a number |
| GET /metrics | for Prometheus |
| GET /healthz, /readyz | for whoever restarts the service; for whoever sends it requests |
| POST /bundles | keeps a bundle that is sent as a tar archive of its files: `{"bundle": digest}` |
| POST /releases | begins a canary of a bundle of the registry: `{"bundle": digest, "actor": who}` |
| POST /pause, /resume, /rollback, /promote | `{"actor": who, "reason": why}` |
| POST /labels | true outcomes by request id: a JSON object, or a line of JSON each |

What cannot be done is answered as `{"error": what, "fix": what to do}` with a status of 400 or above.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from ci_tools.release.control import Control

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["LOOPBACK", "app"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a browser on this machine may ask."""


def app(control: Control, token: str | None = None, *, hosts: Collection[str] = LOOPBACK) -> "ASGIApp":
    """The API of a running service, as an ASGI application.

    Args:
        control: what is asked; called from worker threads.
        token: that every call but /healthz and /readyz must carry; None where the socket's permissions are the guard.
        hosts: accepted in the Host header, without the port and in whatever case: a foreign name that resolves to
            loopback is refused.

    Raises:
        ModuleNotFoundError: starlette, jinja2 or prometheus_client is not installed.
    """
    from ci_tools.release.api.routes import application

    return application(control, token, frozenset(map(str.lower, hosts)))
