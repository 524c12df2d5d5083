"""Another revision's policy judges: what a commit loosened for itself does not count."""

import json
import os

import pytest

from ci_tools.errors import ConfigError
from ci_tools.gates import authority, calibration, files, policy
from ci_tools.gates.suite import judge
from tests.gates import project

TEST = """\
from ci_tools.gates import Reading, gate
from ci_tools.gates import policy as policies

@gate(limit=1.0, unit="m")
def far():
    return Reading(statistic=2.0, diagnosis="went far")

def test_far(policy):
    assert policies.load().gates == policy.settings.gates
    policy.require(far())
"""


@pytest.fixture
def loosened(tmp_path, monkeypatch, git):
    """`main` has a gate that blocks; the branch at hand lets it pass in three ways."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main", ".")
    project.write(tmp_path, {"test_far.py": TEST, "__init__.py": ""}, policy="gates: {}\n")
    (tmp_path / "tests/__init__.py").write_text("")
    git("add", "--all")
    git("commit", "--quiet", "-m", "strict")
    git("switch", "--quiet", "--create", "loose")
    (tmp_path / "gates.yaml").write_text("gates: {far: {limit: 3.0}}\n")
    git("commit", "--quiet", "-am", "loose")
    return tmp_path


def test_own_policy_judges_unless_another_is_named(loosened, switchback):
    assert judge().exit_code == 0
    code, out, _ = switchback("gate", "--policy", "main", "--json")
    verdicts = json.loads(out)
    assert (code, verdicts["policy"]) == (1, "main")
    assert [one["test"] for one in verdicts["verdicts"]] == ["tests/model/test_far.py::test_far"]
    assert files.read(files.FOLDER / files.VERDICTS).policy == "main"


def test_tests_that_were_removed_judge_all_the_same(loosened):
    (loosened / "tests/model/test_far.py").unlink()
    assert judge(policy="main").exit_code == 1


def test_policy_that_judged_stays_as_evidence_until_the_next_call(loosened):
    with authority.of("main"):
        assert policy.load().gates == {}
    assert (loosened / "gates/policy/gates.yaml").read_text() == "gates: {}\n"
    assert policy.load_for_report(loosened).gates == {}
    assert policy.load().gates.keys() == {"far"}, "only while it judges"
    with authority.of(""):
        assert not (loosened / "gates/policy").exists()
    assert policy.load_for_report(loosened).gates.keys() == {"far"}


def test_calibration_is_that_of_the_revision(loosened, git):
    (loosened / "calibration.json").write_text("not a calibration")
    with authority.of("main"):
        assert calibration.load() is None
    with pytest.raises(ConfigError, match=r"calibration\.json: is not a calibration"):
        calibration.load()


@pytest.mark.parametrize("ref", ["nowhere", "--output=x", "main:gates.yaml"])
def test_unknown_revision_is_one_line_and_leaves_nothing(loosened, switchback, ref):
    code, _, err = switchback("gate", f"--policy={ref}")
    assert (code, err.count("\n")) == (2, 1)
    assert "policy's revision unknown" in err
    assert "SWITCHBACK_POLICY_FOLDER" not in os.environ


def test_revision_without_tests_cannot_judge(loosened, git):
    git("rm", "--quiet", "-r", "tests/model")
    git("commit", "--quiet", "-m", "none")
    with pytest.raises(ConfigError, match="has no tests/model; a policy needs tests"), authority.of("HEAD"):
        pass
