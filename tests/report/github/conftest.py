import pytest

from ci_tools.report.github import Patience, Target
from tests.report.github import validator
from tests.report.github.hub import REPOSITORY, Hub
from tests.report.github.routes import ROUTES


class Clock:
    """Time that passes only by waiting."""

    def __init__(self):
        self.now, self.waits = 1_800_000_000.0, []

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def patience(clock):
    return Patience(clock=clock)


@pytest.fixture(scope="session", autouse=True)
def prism():
    """Starts when the first test of this folder does and gets ready beside the cheap ones."""
    with validator.starting() as started:
        yield started


@pytest.fixture
def hub(prism, monkeypatch):
    """A server that shows every request to GitHub's own description, where npm can get it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Hub(ROUTES)
    running.validate = prism.violations if prism.ready() else None
    yield running
    running.close()
    assert running.violations == []


@pytest.fixture
def target(hub):
    return Target(repository=REPOSITORY, token="secret", api_url=hub.url, pull_request=5)
