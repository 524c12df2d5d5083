import json
import shutil

import pytest

from ci_tools import lockfile
from ci_tools.experiment import change
from ci_tools.pipeline import reproduce
from ci_tools.repro.compare import Comparison
from ci_tools.walk import Lock, read


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the first test leaves what `committed` copies for the others."""
    return tmp_path_factory.mktemp("made") / "repository"


@pytest.fixture
def committed(repository, git, made):
    """A commit with the lock that its code makes."""
    if made.exists():
        shutil.rmtree(repository / ".git")
        return shutil.copytree(made, repository, dirs_exist_ok=True)
    reproduce()
    git("add", "dvc.lock")
    git("commit", "--quiet", "-m", "lock")
    shutil.copytree(repository, made)
    return repository


def test_commit_without_a_lock(repository):
    assert reproduce(verify_lock=True).lock == Lock("absent")


def test_lock_that_the_code_makes_is_verified_and_remembered(committed):
    assert reproduce(verify_lock=True).lock == Lock("verified")
    assert read().walk.lock == Lock("verified")


def test_lock_of_other_params_differs_and_the_trainings_are_compared(committed, git, monkeypatch, capfd):
    found = Comparison("a", "b", 12, "gradient", 12, "fc1", "3 ULP in its rms")
    asked = []
    monkeypatch.setattr("ci_tools.repro.compare.compare", lambda a, b: asked.append((a.is_dir(), str(b))) or found)
    change(["train.steps=20"])
    git("commit", "--quiet", "-am", "20 steps, and the old lock")
    assert reproduce(verify_lock=True).lock == Lock("differs", "gradient", 12, "fc1")
    assert asked == [(True, "runs/seed-1")]
    assert "dvc.lock: differs from that of HEAD; its training against the one here: identical until step 12" in (
        capfd.readouterr().err
    )


def test_trainings_that_are_equal_all_the_same(committed, monkeypatch):
    monkeypatch.setattr("ci_tools.repro.compare.compare", lambda a, b: Comparison("a", "b", 10))
    change(["double.times=3"])
    assert reproduce(verify_lock=True).lock == Lock("differs", "none")


def test_records_that_cannot_be_had_leave_the_place_unknown(committed, capfd):
    change(["train.steps=20"])
    for path in (committed / ".dvc/cache").rglob("*.dir"):
        path.unlink()
    assert reproduce(verify_lock=True).lock == Lock("differs")
    assert "whose records are not to be had" in capfd.readouterr().err


def test_lock_that_is_none_differs(committed, git):
    (committed / "dvc.lock").write_text("stages: [")
    git("commit", "--quiet", "-am", "broken")
    git("checkout", "--quiet", "HEAD~1", "--", "dvc.lock")
    assert lockfile.verified().state == "differs"


@pytest.mark.parametrize("options", [{"targets": ["double"]}, {"settings": ["train.steps=30"]}])
def test_part_of_the_pipeline_or_other_settings_say_nothing_of_the_lock(committed, options):
    assert reproduce(**options, verify_lock=True).lock is None


def test_command_tells_it_as_json(committed, switchback):
    code, out, _ = switchback("reproduce", "--verify-lock", "--json")
    assert (code, json.loads(out)["lock"]["state"]) == (0, "verified")
    assert json.loads(switchback("reproduce", "--json")[1])["lock"] is None
