"""A signing key and a sealed bundle, made once."""

import shutil

import pytest

from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from tests.release.bundle import toy


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Sentences are compared whole, whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    return signing_key(tmp_path_factory.mktemp("key") / "signing.pem")


@pytest.fixture(scope="session")
def trusted(key):
    return Trust(public_keys=(public_beside(key),))


@pytest.fixture(scope="session")
def original(tmp_path_factory, key):
    return toy.sealed(tmp_path_factory.mktemp("bundles"), key)


@pytest.fixture
def bundle(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / original.name)


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """The files of a run that passed, in the working directory."""
    root = toy.pipeline(tmp_path / "repository")
    monkeypatch.chdir(root)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    return root
