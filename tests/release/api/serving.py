"""A control behind the API on a real socket, until the test ends."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from ci_tools.release.api import app

SECONDS = 30


@contextmanager
def serving(control, *, path=None, token=None, port=0):
    """Yields the address: a Unix socket where a path is given, else loopback."""
    family = socket.AF_UNIX if path else socket.AF_INET
    with socket.socket(family) as listener:
        if path:
            path.unlink(missing_ok=True)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(str(path) if path else ("127.0.0.1", port))
        config = uvicorn.Config(app(control, token), lifespan="off", access_log=False, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield path or f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()


def until(condition, seconds=SECONDS):
    """Wait for a condition; its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found
