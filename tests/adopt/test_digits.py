"""The example: real images, adopted as docs/adopt.md says, with faults that its gates name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools.adopt.files import ACCEPTANCE
from ci_tools.adopt.workflows import template
from ci_tools.config import read_yaml
from ci_tools.gates import files, policy, training
from ci_tools.gates.convergence import divergence, plateau
from ci_tools.gates.labels import label_noise
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.quality import quality_floor
from ci_tools.gates.run import open_run
from ci_tools.gates.verdict import Outcome
from ci_tools.release.judge import policy as releases

DIGITS = Path(__file__).parents[2] / "examples/digits"
MADE = shutil.ignore_patterns("data", "runs", "export", "fingerprint", "gates", "report", ".switchback", "cache", "tmp")
"""What somebody's run in the example itself may have left."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A copy of the example with its data."""
    folder = tmp_path_factory.mktemp("digits") / "digits"
    shutil.copytree(DIGITS, folder, ignore=MADE)
    subprocess.run([sys.executable, "data.py"], cwd=folder, check=True)
    return folder


def test_acceptance_tests_are_the_templates_and_one_of_its_own():
    own = {path.name for path in (DIGITS / "tests/model").glob("*.py")}
    assert own - set(ACCEPTANCE) == {"test_data.py"}
    for name in ACCEPTANCE:
        assert (DIGITS / "tests/model" / name).read_text() == template(f"tests/model/{name}.in"), name


def test_release_policy_is_the_shipped_one():
    assert releases.load(DIGITS / "release.yaml") == releases.load(DIGITS.parents[1] / "release.yaml")


@pytest.fixture(scope="module")
def runs(digits):
    """The clean run, seed 1, and the one with wrong labels, seed 2; both at once."""
    options = {1: [], 2: ["--wrong-labels", "0.2"]}
    children = [
        subprocess.Popen([sys.executable, "train.py", "--seed", str(seed), *more], cwd=digits)
        for seed, more in options.items()
    ]
    assert [child.wait() for child in children] == [0, 0]
    return {seed: open_run([seed], digits) for seed in options}


def test_clean_run_passes(runs):
    run = runs[1]
    demands = policy.load(DIGITS / "gates.yaml")
    judge = policy.Judge(demands, None, "", 1)
    found = [gate(run.trainings[0]) for gate in (divergence, plateau, overfitting, label_noise)]
    found += [quality_floor(run, metric, demands) for metric in demands.metrics]
    assert {one.gate: judge.verdict(one).outcome for one in found if judge.verdict(one).outcome != Outcome.PASSED} == {}


def test_wrong_labels_are_named(runs):
    judge = policy.Judge(policy.load(DIGITS / "gates.yaml"), None, "", 1)
    assert judge.verdict(label_noise(training.read(runs[2].release))).outcome is Outcome.FAILED


@pytest.mark.slow
class TestWhole:
    """`switchback run` in the example, and after a fault."""

    @pytest.fixture(scope="class")
    @classmethod
    def repository(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("repository") / "digits"
        shutil.copytree(DIGITS, folder, ignore=MADE)
        subprocess.run(["git", "init", "--quiet", "."], cwd=folder, check=True)
        return folder

    def run(self, folder, *settings):
        command = [sys.executable, "-m", "ci_tools", "run", "--no-rehearsal", *(f"--set={one}" for one in settings)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.returncode, files.read(folder / "gates/verdicts.json"), done.stdout + done.stderr

    def test_clean_run_merges(self, repository):
        code, verdicts, told = self.run(repository)
        assert (code, verdicts.blocking) == (0, ()), told
        assert (repository / "report/comment.md").is_file()

    @pytest.mark.parametrize(
        ("key", "value", "gate"),
        [("wrong_labels", 0.2, "label_noise"), ("lr", 3, "divergence"), ("steps", 20, "plateau")],
    )
    def test_fault_is_named(self, repository, key, value, gate):
        train = read_yaml(DIGITS / "params.yaml")["train"] | {key: value}
        settings = [f"train.{name}={value}" for name, value in train.items()]
        code, verdicts, told = self.run(repository, "seeds=[1]", *settings)
        assert (code, verdicts.cause) == (1, gate), told
