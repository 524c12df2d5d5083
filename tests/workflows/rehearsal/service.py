"""A release service on loopback, as its owner runs it, and requests on it."""

import itertools
import json
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from ruamel.yaml import YAML

from ci_tools.errors import SwitchbackError
from ci_tools.release.bundle.keys import public_beside
from ci_tools.release.bundle.manifest import MANIFEST, Manifest
from ci_tools.release.client import Address
from ci_tools.release.client.connection import Connection
from ci_tools.release.home import Home
from ci_tools.release.judge import policy
from ci_tools.release.plan import Role
from ci_tools.release.rehearsal.policy import PER_SECOND, SETTINGS, shortened
from ci_tools.release.rehearsal.replay import Replay, requests
from ci_tools.release.rehearsal.service import serving
from ci_tools.release.supervisor.child import Child
from ci_tools.release.supervisor.server import free_port

UP_S, DOWN_S = 90, 30
MISSING = 3
"""One request in so many comes from a client that leaves a number out, which no row of the data does."""


class Service:
    """Runs until the block ends. It trusts whoever signs with the key."""

    def __init__(self, folder, project, key):
        self.home = Home(Path(folder) / "home")
        self.home.path.mkdir(parents=True)
        port = free_port(set())
        self.url = f"http://127.0.0.1:{port}"
        rules = _written(folder / "release.yaml", shortened(policy.load(project / "release.yaml"), decides=True))
        settings = _written(folder / "controller.yaml", SETTINGS)
        command = [sys.executable, "-m", "ci_tools", "serve", "--home", self.home.path, "--port", 0, "--api-port", port]
        command += ["--policy", rules, "--controller-settings", settings, "--public-key", public_beside(key)]
        self._child = Child([str(word) for word in command], folder / "service.log")

    @property
    def token(self):
        return (self.home.path / "token").read_text().strip()

    @property
    def address(self):
        return Address(home=self.home)

    def champion(self):
        with Connection(self.address) as connection:
            return connection.status().champion

    def wait(self):
        """Until it answers."""
        _until(lambda: self.champion() is not None, f"the release service: {self._child.ended()}")

    def close(self):
        self._child.signal(15)
        with suppress(AssertionError):
            _until(lambda: self._child.exit_code is not None, "its end", DOWN_S)
        self._child.kill()


@contextmanager
def requested(service, project):
    """Rows of the project's test split as requests, of which some lack their first number."""
    digest = service.champion()
    manifest = Manifest.model_validate_json((service.home.bundles / digest / MANIFEST).read_bytes())
    bodies = requests(project / "data/test.npz", manifest)
    bodies = [_without(body) if turn % MISSING == 0 else body for turn, body in zip(itertools.count(), bodies)]
    with Replay(serving(service.address, Role.STABLE, digest), manifest.name, bodies, PER_SECOND / 2) as replay:
        yield replay


def _without(body):
    request = json.loads(body)
    numbers = next(one for one in request["inputs"] if one["datatype"] == "FP32")
    numbers["data"][0] = None
    return json.dumps(request).encode()


def _written(path, config):
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(config.model_dump(mode="json"), file)
    return path


def _until(condition, what, seconds=UP_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(SwitchbackError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain for {what}")
