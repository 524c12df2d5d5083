"""A release service at the other end of a socket: questions as calls, refusals as our own errors."""

import json
import os
import socket
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from ci_tools.config import Config
from ci_tools.errors import ConfigError, DataError, DependencyUnavailable
from ci_tools.harmless import one_line
from ci_tools.release.control import Event, Release, Status
from ci_tools.release.home import Home

TOKEN = "SWITCHBACK_TOKEN"  # noqa: S105 - the variable's name
"""Environment variable with the token of a service that is asked by --url."""
_SECONDS = 10.0
"""For one answer."""
_BUNDLE_SECONDS = 120.0
"""For the answer after a bundle, which is checked first."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Address:
    """Where a service is: on this machine by its home, or anywhere by URL and token."""

    home: Home = field(default_factory=Home)
    url: str = ""
    """Such as http://127.0.0.1:8070; empty: the socket in the home."""
    token: str = ""
    """Of the URL; empty: SWITCHBACK_TOKEN, else the file `token` in the home."""

    def __str__(self) -> str:
        return self.url or str(self.home.socket)


class Kept(Config):
    """A bundle that the service has now."""

    bundle: str
    """Digest."""


class Connection:
    """One service; each call is a request of its own, so it outlives the service's restarts."""

    def __init__(self, address: Address) -> None:
        self.address = address
        if address.url:
            url, headers = _checked(address.url), {"authorization": f"Bearer {_token(address)}"}
            self._client = httpx.Client(base_url=url, headers=headers, timeout=_SECONDS, trust_env=False)
        else:
            transport = httpx.HTTPTransport(uds=str(address.home.socket))
            self._client = httpx.Client(
                base_url="http://localhost", transport=transport, timeout=_SECONDS, trust_env=False
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def status(self) -> Status:
        """What is going on.

        Raises:
            DependencyUnavailable: the service does not answer.
            ConfigError: it refuses, as do all calls below.
        """
        return self._read(self._ask("GET", "/status"), Status)

    def events(self, after: int = 0) -> list[Event]:
        """All events behind number `after`, oldest first."""
        found: list[Event] = []
        while True:
            raw = self._ask("GET", f"/events?after={found[-1].seq if found else after}")
            page = [self._read(event, Event) for event in raw.get("events", ())]
            if not page:
                return found
            found += page

    def add(self, bundle: Path) -> str:
        """Send the files of a bundle to the service's registry; returns its digest.

        Raises:
            DataError: a file cannot be read, or it is no bundle.
            ConfigError: nobody signed it whom the service trusts.
        """
        kind = {"content-type": "application/x-tar"}
        with TemporaryFile() as archive:
            try:
                with tarfile.open(fileobj=archive, mode="w:") as tar:
                    for file in sorted(bundle.iterdir()):
                        tar.add(file, file.name)
            except OSError as error:
                fix = "name the folder of a bundle"
                raise DataError(f"cannot be sent ({error.strerror})", where=bundle, fix=fix) from None
            archive.seek(0)
            raw = self._ask("POST", "/bundles", content=archive, headers=kind, timeout=_BUNDLE_SECONDS)
        return self._read(raw, Kept).bundle

    def submit(self, bundle: str, actor: str, again: bool = False) -> Release:
        """Begin a canary, or join the one of that bundle; `again`: begin anew where it was rolled back."""
        wanted = {"bundle": bundle, "actor": actor, "again": again}
        return self._read(self._ask("POST", "/releases", json=wanted), Release)

    def order(self, name: str, actor: str, reason: str) -> Status:
        """Pause, resume, rollback or promote."""
        return self._read(self._ask("POST", f"/{name}", json={"actor": actor, "reason": reason}), Status)

    def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        try:
            self._knock()
            answer = self._client.request(method, path, **body)
        except (httpx.RequestError, OSError) as error:
            raise self._unavailable(f"does not answer ({one_line(str(error) or type(error).__name__, 120)})") from None
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._unavailable(f"answers with status {answer.status_code} and no JSON: is it the release service?")
        if answer.status_code >= 500:
            raise self._unavailable(f"cannot do it now: {one_line(str(told.get('error', '')))}")
        if answer.status_code >= 400:
            what, fix = (one_line(str(told.get(key, ""))) for key in ("error", "fix"))
            raise ConfigError(what, where="release service", fix=fix)
        return told

    def _knock(self) -> None:
        """Fail here where nobody listens: httpcore does not close a Unix socket that it could not connect."""
        if not self.address.url:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_SECONDS)
                probe.connect(str(self.address.home.socket))

    def _read(self, raw: Any, model: type[C]) -> C:
        try:
            return model.model_validate_json(json.dumps(raw))
        except ValidationError:
            raise self._unavailable(f"tells no {model.__name__.lower()} that this version knows") from None

    def _unavailable(self, what: str) -> DependencyUnavailable:
        fix = (
            "look at the service's log" if self.address.url else "start it with `switchback serve`, or name its --home"
        )
        return DependencyUnavailable(f"the release service {what}", where=self.address, fix=fix)


def _token(address: Address) -> str:
    fix = f"set {TOKEN} to what stands in the file `token` of the service's home"
    token = (address.token or os.environ.get(TOKEN, "")).strip()
    try:
        token = token or (address.home.path / "token").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        raise ConfigError("the service at a URL wants its token", where="--url", fix=fix) from None
    if not token.isascii() or not token.isprintable():
        raise ConfigError("is no token", where=TOKEN, rule="a token is one line of plain letters", fix=fix)
    return token


def _checked(url: str) -> str:
    try:
        parts, _ = urlsplit(url), httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"is no address: {one_line(url, 80)}", where="--url", fix="give http://127.0.0.1:PORT")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        rule = "the token would cross the network readable"
        raise ConfigError("http leaves this machine", where="--url", rule=rule, fix="use https, or an SSH tunnel")
    return url
