"""Who may call: the token, and what a browser could be made to send without its user's knowledge.

- A page of somewhere else cannot read our answers, but may send requests and could have its own name resolve to
  loopback: the Host header must be one of ours, and an Origin header must be that host.
- Changes need the content type of JSON or of an archive, which a foreign page cannot send without asking first, and
  nobody answers yes.
- A browser shows the token once, as `/?token=…`, and gets a cookie that no script reads and no other site sends.
"""

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ci_tools.release.api import LOOPBACK, uploads
from ci_tools.release.api.answers import Refused

OPEN = ("/healthz", "/readyz")
"""Answer without a token, and say nothing but whether the service lives, and whether it has a model that answers."""
TYPES = ("application/json", "application/x-ndjson", uploads.TYPE)
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """An ASGI application that lets only rightful requests through to another."""

    def __init__(self, inner: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        if token is not None and not token:
            raise ValueError("an empty token would let everybody in")
        self._inner, self._token, self._hosts = inner, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on and mark the answer as private."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        request = Request(scope)
        try:
            self._check(request)
            cookie = self._enter(request)
        except Refused as refusal:
            await refusal.response(scope, receive, _adding(send, HEADERS))
            return
        await self._inner(scope, receive, _adding(send, HEADERS | ({"set-cookie": cookie} if cookie else {})))

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if _name(host) not in self._hosts:
            raise Refused(400, "the Host header names another machine", f"ask for {' or '.join(sorted(self._hosts))}")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Refused(403, "the request comes from a page of another origin", "use the page of this service")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method not in ("GET", "HEAD") and kind not in TYPES:
            raise Refused(415, "the body must be JSON", "send Content-Type: application/json")

    def _enter(self, request: Request) -> str:
        """The cookie to set, where the page was opened by token; else nothing."""
        if self._token is None or request.url.path in OPEN:
            return ""
        name, session = _session(self._token)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self._token):
            return ""
        if _equal(request.cookies.get(name, ""), session):
            return ""
        if (
            request.method == "GET"
            and request.url.path == "/"
            and _equal(request.query_params.get("token", ""), self._token)
        ):
            # Another name than this machine's is a proxy's, and the way there leads through the network.
            secure = "" if _name(request.headers.get("host", "")) in LOOPBACK else "; Secure"
            return f"{name}={session}; HttpOnly; SameSite=Strict; Path=/{secure}"
        fix = "send Authorization: Bearer TOKEN, or open /?token=TOKEN once; the service keeps it in its file `token`"
        raise Refused(401, "the token is missing or wrong", fix, {"www-authenticate": "Bearer"})


def _adding(send: Send, headers: dict[str, str]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sent


def _name(host: str) -> str:
    """Without the port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _session(token: str) -> tuple[str, str]:
    """Name and value of the cookie. Cookies know no ports: two services on one machine must not share a name."""
    digest = hmac.new(token.encode(), b"status page", hashlib.sha256).hexdigest()
    return f"switchback-{hashlib.sha256(digest.encode()).hexdigest()[:8]}", digest


def _equal(given: str, expected: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
