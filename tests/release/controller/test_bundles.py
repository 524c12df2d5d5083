"""A bundle is what its digest says, and may replace only one that answers the same requests."""

import pytest

from ci_tools.errors import ConfigError
from ci_tools.release.bundle.manifest import Tensor
from ci_tools.release.controller import bundles
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from tests.release.controller.fleet import Fleet


@pytest.fixture
def fleet(tmp_path):
    return Fleet(Home(tmp_path))


def test_thresholds_are_each_bundles_own(fleet):
    one, other = fleet.bundle("one"), fleet.bundle("other", threshold=0.7)
    assert bundles.comparable(fleet.home, one, other, Policy()) == (0.5, 0.7)


def test_a_changed_manifest_is_refused(fleet):
    digest = fleet.bundle("one")
    path = fleet.home.bundles / digest / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"two"'))
    with pytest.raises(ConfigError, match="the manifest was changed"):
        bundles.manifest(fleet.home, digest)


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "0" * 64])
def test_what_is_no_bundle_is_refused(fleet, digest):
    with pytest.raises(ConfigError, match="no bundle"):
        bundles.manifest(fleet.home, digest)


def test_other_inputs_are_refused(fleet):
    one = fleet.bundle("one")
    other = fleet.bundle("other", inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 4)),))
    with pytest.raises(ConfigError, match="inputs differ from the champion's"):
        bundles.comparable(fleet.home, one, other, Policy())


def test_bundles_that_decide_nothing_have_no_flips_to_prove(fleet):
    one, other = fleet.bundle("one"), fleet.bundle("other", decision=None)
    with pytest.raises(ConfigError, match="flips: promotion needs decisions"):
        bundles.comparable(fleet.home, one, other, Policy())
    assert bundles.comparable(fleet.home, one, other, Policy(flips=None)) is None
