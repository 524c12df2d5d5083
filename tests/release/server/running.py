"""A model server as a process of its own, and a client that says exactly what it is told to."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.release.server.bundles import NAME, trust_key

INFER = f"/v2/models/{NAME}/infer"
SECONDS = 60
REAL = (sys.executable, "-m", "ci_tools.release.server")


class Running:
    """A server that was started."""

    def __init__(self, process, port, predictions, stderr):
        self.process, self.port, self.predictions, self._stderr = process, port, predictions, stderr

    @property
    def told(self):
        """What it wrote to stderr so far."""
        return Path(self._stderr).read_text(encoding="utf-8")

    def ask(self, method, path, body=None, headers=None):
        """One request on a connection of its own: (status, headers, body)."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()

    def get(self, path):
        """Status and JSON."""
        status, _, body = self.ask("GET", path)
        return status, json.loads(body)

    def infer(self, request, headers=None, path=INFER):
        """Status and JSON."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        status, _, answer = self.ask("POST", path, body, headers)
        return status, json.loads(answer)

    def metric(self, name):
        """One sample of /metrics, by name and labels as they are written there; 0 where there is none."""
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)

    def logged(self, count):
        """The prediction log, as soon as it has that many lines."""
        wait_for(lambda: self.predictions.exists() and self.predictions.read_bytes().count(b"\n") >= count)
        return [json.loads(line) for line in self.predictions.read_text().splitlines()]

    def stop(self, number=signal.SIGTERM):
        """Send a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def free_port():
    """One on loopback that nobody has; below those that outgoing connections and a supervisor's servers get, of which
    another test's could take it before it is used.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 19_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition, seconds=SECONDS):
    """Until it holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def launch(bundle, *flags, program=REAL, port=None, folder=None):
    """Start a server, not waiting for anything."""
    folder = Path(folder or tempfile.mkdtemp(dir=bundle.parent))
    port = port or free_port()
    predictions = folder / "predictions.jsonl"
    command = [*program, "--bundle", bundle, "--member", "m1", "--port", port, "--trust-key", trust_key(bundle)]
    command += ["--predictions", predictions, *flags]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [str(word) for word in command], stderr=stderr, stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    return Running(process, port, predictions, folder / "stderr")


@contextlib.contextmanager
def serving(bundle, *flags, **options):
    """A server that is ready; ended in the end."""
    server = launch(bundle, *flags, **options)
    try:
        wait_for(lambda: "ready on" in server.told or server.process.poll() is not None)
        assert server.process.poll() is None, server.told
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


def request(rows=1, *, value=0.5, **more):
    """A request of `rows` equal rows."""
    return {
        "inputs": [
            {"name": "numeric", "datatype": "FP32", "shape": [rows, 4], "data": [value, -1.0, 2.0, 0.25] * rows},
            {"name": "categorical", "datatype": "INT64", "shape": [rows, 2], "data": [1, 7] * rows},
        ],
        **more,
    }
