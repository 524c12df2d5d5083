"""What the API answers where it cannot do what was asked: a status, what is wrong, and the fix. No traceback."""

import json
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ci_tools.errors import ConfigError, DataError, DependencyUnavailable, SwitchbackError, explain
from ci_tools.harmless import one_line

Call = Callable[[Request], Coroutine[Any, Any, Response]]
_OURS = ((DataError, 422), (ConfigError, 409), (DependencyUnavailable, 503))
"""Status per class; a control that refuses does so because of the state that the service is in."""


class Refused(Exception):
    """The request itself is wrong."""

    def __init__(self, status: int, what: str, fix: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status, self.what, self.fix, self.headers = status, what, fix, headers

    @property
    def response(self) -> Response:
        """As it is sent."""
        return answer({"error": self.what, "fix": self.fix}, self.status, self.headers)


def answer(values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Plain values as JSON."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode("utf-8", "replace"), status, headers, "application/json")


def answering(call: Call) -> Call:
    """The same call, whose every failure becomes an answer."""

    async def answered(request: Request) -> Response:
        try:
            return await call(request)
        except Refused as refusal:
            return refusal.response
        except SwitchbackError as error:
            return _failed(error)
        except (OSError, ModuleNotFoundError) as error:
            return answer({"error": str(explain(error)), "fix": ""}, 503)
        except (HTTPException, ClientDisconnect):
            raise
        except Exception as error:
            _log(request, error)
            return answer({"error": "the service failed at this request; its log says where", "fix": ""}, 500)

    return answered


def _failed(error: SwitchbackError) -> Response:
    status = next((status for kind, status in _OURS if isinstance(error, kind)), 409)
    what = f"{error.where}: {error.what}" if error.where else error.what
    return answer({"error": f"{what}; {error.rule}" if error.rule else what, "fix": error.fix}, status)


async def unknown(request: Request, error: Exception) -> Response:
    """Of a path or a method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: "no such path", 405: "no such method here"}.get(status, "cannot be answered")
    fix = (
        "GET /, /status, /events, /metrics, /healthz or /readyz; "
        "POST /releases, /bundles, /pause, /resume, /rollback, /promote, /labels"
    )
    return answer({"error": f"{request.method} {one_line(request.url.path, 100)}: {what}", "fix": fix}, status)


def _log(request: Request, error: Exception) -> None:
    """One line that finds the fault."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    told = one_line(f"{request.method} {request.url.path}: {type(error).__name__}: {error}")
    sys.stderr.write(f"error: {told}{where}\n")
