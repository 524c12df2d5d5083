"""The control API's sockets: HOME/control.sock for whoever may open it, and loopback TCP for whoever has the token."""

import os
import re
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from ci_tools.errors import ConfigError
from ci_tools.files import write_atomic
from ci_tools.release.home import LONGEST_SOCKET, Home

LOOPBACK = "127.0.0.1"
_SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[!-~]{{{_SHORTEST_TOKEN},}}")
_LAST_SECONDS = 2.0
"""For which requests may be finished at the end."""


class Serving:
    """One ASGI app on one socket, in a thread of its own."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=int(_LAST_SECONDS)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests that there are."""
        self._server.should_exit = True
        self._thread.join(2 * _LAST_SECONDS)


def unix(path: Path) -> socket.socket:
    """Listen for this user only; a socket that a dead process left is replaced.

    Raises:
        ConfigError: the path is too long.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        rule = f"a socket's path has {LONGEST_SOCKET} at most"
        raise ConfigError(f"is {len(os.fsencode(path))} bytes long", where=path, rule=rule, fix="name a shorter --home")
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def loopback(port: int) -> socket.socket:
    """Listen on 127.0.0.1.

    Raises:
        ConfigError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot be used ({error.strerror})", where=f"{LOOPBACK}:{port}",
                          fix="name another --api-port") from None  # fmt: skip
    listener.listen(128)
    return listener


def token(home: Home) -> str:
    """The secret that TCP asks for, made at the first start; only this user may read it.

    Raises:
        ConfigError: the file is no token, or others may read it.
        SwitchbackError: the disk refuses.
    """
    path = home.path / "token"
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    found = path.read_text(encoding="ascii", errors="replace").strip()
    fix = "remove it: the next start makes another"
    if not _TOKEN.fullmatch(found):
        rule = f"a token has {_SHORTEST_TOKEN} letters and digits at least"
        raise ConfigError("is no token", where=path, rule=rule, fix=fix)
    if path.stat().st_mode & 0o077:
        raise ConfigError("others may read it", where=path, rule="who has the token may promote and roll back", fix=fix)
    return found
