import pytest

from tests.report.html import cases


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished pipeline of three seeds; tests that change it copy it."""
    return cases.pipeline(tmp_path_factory.mktemp("pipeline"))
