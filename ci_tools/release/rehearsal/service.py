"""A release service as a child process, for as long as a rehearsal takes; it cannot outlive this process."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from ci_tools.config import Config
from ci_tools.errors import DependencyUnavailable
from ci_tools.release.bundle import Trust
from ci_tools.release.client import Address
from ci_tools.release.client.connection import Connection
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.plan import Role
from ci_tools.release.rehearsal.policy import SETTINGS
from ci_tools.release.supervisor.child import Child, last_line

UP_SECONDS = 30.0
"""For Envoy, the controller and the first model server to be there."""
BUSY_SECONDS = 5.0
"""For the first requests to be counted."""
DOWN_SECONDS = 20.0
"""For all of them to end."""


@contextmanager
def running(home: Home, policy: Policy, trust: Trust) -> Iterator[Address]:
    """A service in `home` under `policy` that loads what `trust` signed; it ends with the block.

    Raises:
        DependencyUnavailable: it does not come up; the message holds the last line that it wrote.
    """
    home.path.mkdir(parents=True)
    log = home.path / "service.log"
    command = [
        *(sys.executable, "-P", "-m", "ci_tools", "serve", "--home", str(home.path), "--port", "0"),
        *("--policy", str(_write(home.path / "release.yaml", policy))),
        *("--controller-settings", str(_write(home.path / "controller.yaml", SETTINGS))),
        *(word for key in trust.public_keys for word in ("--public-key", str(key))),
    ]
    child = Child(command, log)
    try:
        _wait(child, log, home)
        yield Address(home=home)
    finally:
        _end(child)


def serving(address: Address, role: Role, bundle: str) -> int:
    """Envoy's port, as soon as a server of that role answers with that bundle.

    Raises:
        DependencyUnavailable: none does in time.
    """
    end = time.monotonic() + UP_SECONDS
    with Connection(address) as connection:
        while time.monotonic() < end:
            actual = connection.status().actual
            if actual.ready(role, bundle) and actual.port:
                return actual.port
            time.sleep(0.05)
    raise DependencyUnavailable(f"no {role} server is ready after {UP_SECONDS:.0f} s", where=address.home.path)


def busy(address: Address) -> None:
    """Wait until the service sees requests, for as long as it could take; what a release awaits is told by them."""
    end = time.monotonic() + BUSY_SECONDS
    with Connection(address) as connection:
        while not connection.status().per_second and time.monotonic() < end:
            time.sleep(0.05)


def _wait(child: Child, log: Path, home: Home) -> None:
    end = time.monotonic() + UP_SECONDS
    while time.monotonic() < end and child.exit_code is None:
        try:
            with Connection(Address(home=home)) as connection:
                connection.status()
            return
        except DependencyUnavailable:
            time.sleep(0.05)
    why = child.ended() or f"not within {UP_SECONDS:.0f} s: {last_line(log) or 'it wrote nothing'}"
    raise DependencyUnavailable(f"the release service did not come up ({why})", where=log)


def _end(child: Child) -> None:
    child.signal(signal.SIGTERM)
    end = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < end and child.exit_code is None:
        time.sleep(0.05)
    child.kill()  # where it has not ended; its children die with it


def _write(path: Path, config: Config) -> Path:
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(config.model_dump(mode="json"), file)
    return path
