"""A run that was judged, outside of GitHub Actions; and the command line."""

import sys

import pytest

from ci_tools import cli
from tests.report.left import leave


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run of two seeds."""
    for variable in ("GITHUB_EVENT_PATH", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(variable, raising=False)
    leave(tmp_path)
    return tmp_path


@pytest.fixture
def switchback(monkeypatch, capfd):
    """Run the command line in this process; returns exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.delenv("SWITCHBACK_QUIET", raising=False)
        monkeypatch.setattr(sys, "argv", ["switchback", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return call
