"""One sound bundle, and one server of it, for all tests that leave it as it was."""

import pytest

from tests.release.server import bundles, running


@pytest.fixture(scope="package")
def bundle(tmp_path_factory):
    return bundles.pack(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="package")
def server(bundle):
    with running.serving(bundle) as server:
        yield server
