"""The pytest plugin: fixtures for acceptance tests. It imports nothing until a test asks for one of them.

def test_loss_is_low(run, policy):
    policy.require(my_gate(run))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci_tools.errors import DataError, SwitchbackError

if TYPE_CHECKING:
    from ci_tools.gates.acceptance import Acceptance
    from ci_tools.gates.run import Baseline, Run

_ACCEPTANCE = "switchback-acceptance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `switchback gate` tells its tests."""
    group = parser.getgroup("switchback")
    group.addoption("--switchback-verdicts", metavar="FILE", help="verdicts.json to go on with")
    group.addoption("--switchback-run-root", metavar="PATH", help="folder of the run's pipeline; default: here")
    group.addoption("--switchback-run-seeds", metavar="N,N", help="its seeds; default: those of params.yaml")
    group.addoption("--switchback-base-root", metavar="PATH", help="folder of the base revision's pipeline")
    group.addoption("--switchback-base-seeds", metavar="N,N", help="seeds of its runs; default: those of this run")
    group.addoption("--switchback-base-why", metavar="TEXT", help="why there is no base revision to compare with")
    group.addoption("--switchback-base-error", metavar="TEXT", help="why the base revision could not be run")


def pytest_configure(config: pytest.Config) -> None:
    """Under `switchback gate`, verdicts are written from the start."""
    if config.getoption("--switchback-verdicts"):
        try:
            _acceptance(config)
        except SwitchbackError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def policy(request: pytest.FixtureRequest) -> "Acceptance":
    """Judge: `policy.require(measurement)` fails the test where gates.yaml says that the verdict stops a merge."""
    with _told():
        return _acceptance(request.config)


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> "Run":
    """The run of the working directory: records, metrics, data and model."""
    with _told():
        return _run(request.config)


@pytest.fixture(scope="session")
def baseline(request: pytest.FixtureRequest, run: "Run") -> "Baseline":
    """The run of the base revision, or why there is none to compare with.

    Where one was asked for and could not be run, every test that compares with it is an error.
    """
    from ci_tools.gates.reasons import Reason
    from ci_tools.gates.run import Baseline, open_run

    if error := request.config.getoption("--switchback-base-error"):
        raise DataError(error)
    root, seeds, why = (request.config.getoption(f"--switchback-base-{name}") for name in ("root", "seeds", "why"))
    if not root:
        reason = Reason.NO_PIPELINE if why else Reason.NO_BASE
        return Baseline(None, why or reason.sentence, reason=reason)
    return Baseline(open_run(_numbers(seeds) if seeds else run.seeds, Path(root)))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _run(config: pytest.Config) -> "Run":
    from ci_tools.gates.acceptance import own_run
    from ci_tools.gates.run import open_run

    root, seeds = (config.getoption(f"--switchback-run-{name}") for name in ("root", "seeds"))
    return open_run(_numbers(seeds), Path(root)) if root and seeds else own_run()


def _acceptance(config: pytest.Config) -> "Acceptance":
    """The one of this session; it begins when it is first asked for."""
    found: Acceptance | None = config.pluginmanager.get_plugin(_ACCEPTANCE)
    if found is None:
        from ci_tools.gates.acceptance import accept

        file = config.getoption("--switchback-verdicts")
        found = accept(Path(file) if file else None, partial(_run, config))
        config.pluginmanager.register(found, _ACCEPTANCE)
    return found


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours without a traceback."""
    try:
        yield
    except SwitchbackError as error:
        pytest.fail(str(error), pytrace=False)
