import pytest

from tests.record import toy


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished record; tests copy it before they change it."""
    return toy.train(tmp_path_factory.mktemp("finished") / "run")
