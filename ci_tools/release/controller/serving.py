"""The control API's sockets: HOME/control.sock for whoever may open it, and loopback TCP for whoever has the token."""

import os
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from ci_tools.errors import ConfigError
from ci_tools.release.home import Home

LOOPBACK = "127.0.0.1"
_LONGEST = 107
"""Bytes of a Unix socket's path."""
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
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(f"is {len(os.fsencode(path))} bytes long", where=path,
                          rule=f"a socket's path has {_LONGEST} at most", fix="name a shorter --home")  # fmt: skip
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
    """The secret that TCP asks for, made at the first start; only this user may read it."""
    path = home.path / "token"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()
