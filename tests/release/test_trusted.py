"""The command line trusts whom it is told to: on the way into the registry, in the controller and in the servers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools.errors import ConfigError
from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.trust import named
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.plan import Role
from ci_tools.release.rehearsal.service import running, serving
from ci_tools.release.serve import serve
from tests.release.bundle import toy

ROOT = Path(__file__).parents[2]


def test_bundle_of_another_signer_is_released_where_that_one_is_named(tmp_path, tmp_path_factory):
    key = signing_key(tmp_path / "ci.pem")
    folder, public = toy.sealed(tmp_path / "packed", key), public_beside(key)
    home = Home(tmp_path_factory.mktemp("t") / "s")
    command = [sys.executable, "-m", "ci_tools", "release", str(folder), "--home", str(home.path), "--actor", "Ada"]
    around = os.environ | {"HOME": str(tmp_path / "nobody")}
    with running(home, Policy(), Trust(public_keys=(public,))) as address:
        refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=around)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ")
        assert "this command" in refused.stderr or "no such public key" in refused.stderr
        done = subprocess.run([*command, "--public-key", str(public), "--json"], capture_output=True, text=True,
                              cwd=ROOT, env=around)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert serving(address, Role.STABLE, json.loads(done.stdout)["release"]["bundle"])


def test_those_who_are_named_are_trusted_and_nobody_else(tmp_path):
    key, config = tmp_path / "a.pub", tmp_path / "trust.json"
    assert named() is None
    assert named((key,)) == Trust(public_keys=(key,))
    found = named(identity="https://example.org/flow", trust_config=config)
    assert found
    assert found.keyless
    assert (found.public_keys, found.keyless.identity, found.keyless.trust_config) == (
        (), "https://example.org/flow", config
    )  # fmt: skip
    with pytest.raises(ConfigError, match="belongs to an identity"):
        named(trust_config=config)


def test_service_whose_trust_makes_no_sense_does_not_start(tmp_path):
    for more, said in (
        ({"public_keys": (tmp_path / "missing.pub",)}, "missing.pub"),
        ({"trust_config": tmp_path / "trust.json"}, "belongs to an identity"),
        ({"trust_config": tmp_path / "trust.json", "identity": "x"}, "trust.json: no such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            serve(tmp_path / "home", 0, rules=ROOT / "release.yaml", **more)
    assert not (tmp_path / "home").exists()
