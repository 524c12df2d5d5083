"""A run that was judged, outside of GitHub Actions."""

import pytest

from tests.report.left import leave


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run of two seeds."""
    for variable in ("GITHUB_EVENT_PATH", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(variable, raising=False)
    leave(tmp_path)
    return tmp_path
