"""Two checkouts, one remote between them: what one computed the other finds."""

import json
import shutil
import subprocess

import pytest

from ci_tools import storage
from ci_tools.experiment import change
from ci_tools.pipeline import reproduce


@pytest.fixture
def remote(tmp_path_factory, monkeypatch):
    """A shared folder as DVC remote, named by the environment."""
    folder = tmp_path_factory.mktemp("remote") / "store"
    monkeypatch.setenv(storage.URL, str(folder))
    return folder


@pytest.fixture
def elsewhere(repository, tmp_path_factory, monkeypatch):
    """Go on in a fresh clone of what is committed."""

    def go():
        clone = tmp_path_factory.mktemp("clone") / "repository"
        subprocess.run(["git", "clone", "--quiet", str(repository), str(clone)], check=True)
        monkeypatch.chdir(clone)
        return clone

    return go


def made(**options):
    """What becomes of the first two stages, which are cheap."""
    return {step.stage: step.outcome for step in reproduce(["double"], **options).steps}


COMPUTED = {"look": "checked", "double": "ran"}
FOUND = {"look": "checked", "double": "restored"}


def test_what_was_pushed_is_found_by_its_inputs_without_a_lock(repository, remote, elsewhere, switchback):
    made()
    code, out, err = switchback("push", "--json")
    assert code == 0, err
    assert json.loads(out)["entries"] > 1
    assert json.loads(switchback("push", "--json")[1])["to"] == str(remote)
    clone = elsewhere()
    assert not (clone / "dvc.lock").exists()
    assert made(pull=True) == FOUND
    assert not (clone / "ran.log").exists()
    assert (clone / "doubled/text").read_text() == "one\none\n"


def test_outputs_of_a_committed_lock_are_found_too(repository, git, remote, elsewhere, switchback):
    made()
    switchback("push")
    git("add", "dvc.lock")
    git("commit", "--quiet", "-m", "lock")
    shutil.rmtree(remote / "files/md5/runs", ignore_errors=True)  # without the run cache
    clone = elsewhere()
    assert made(pull=True) == FOUND
    assert not (clone / "ran.log").exists()


def test_other_inputs_find_nothing_and_neither_does_who_does_not_ask(repository, remote, elsewhere, switchback):
    made()
    switchback("push")
    elsewhere()
    change(["double.times=3"])
    assert made(pull=True) == COMPUTED
    elsewhere()
    assert made() == COMPUTED, "nothing is pulled without asking"


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_remote_that_does_not_give_costs_the_time_to_compute(repository, remote, elsewhere, switchback, state):
    made()
    switchback("push")
    if state == "missing":
        shutil.rmtree(remote)
    else:
        for path in remote.glob("files/md5/??/*"):
            if path.is_file():
                path.chmod(0o644)
                path.write_text("something else")
    clone = elsewhere()
    assert made(pull=True) == COMPUTED
    assert (clone / "doubled/text").read_text() == "one\none\n"


def test_job_without_rights_gathers_and_another_one_pushes(repository, remote, elsewhere, switchback, tmp_path):
    made()
    kept = tmp_path / "kept"
    assert switchback("push", "--to", str(kept))[0] == 0
    assert not remote.exists()
    elsewhere()
    code, out, err = switchback("push", "--from", str(kept), "--json")
    assert code == 0, err
    assert json.loads(out)["entries"] >= 2
    assert json.loads(switchback("push", "--from", str(kept), "--json")[1])["to"] == str(remote)
    elsewhere()
    assert made(pull=True) == FOUND


def test_gathered_file_that_is_not_what_its_name_says_is_refused(repository, remote, elsewhere, switchback, tmp_path):
    made()
    switchback("push", "--to", str(tmp_path / "kept"))
    forged = next(path for path in (tmp_path / "kept/files/md5").glob("??/*") if path.is_file())
    forged.chmod(0o644)
    forged.write_text("a poisoned model")
    elsewhere()
    code, _, err = switchback("push", "--from", str(tmp_path / "kept"))
    assert code == 2
    assert "is not what its name says; a cache is named by content" in err
    assert not list(remote.glob("files/md5/??/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "a", "--from", "b"], "--to, --from: contradict each other"),
        (["--from", "nowhere"], "nowhere: holds no cache"),
    ],
)
def test_misuse_is_one_line(repository, remote, switchback, arguments, said):
    code, _, err = switchback("push", *arguments)
    assert code == 2
    assert said in err.splitlines()[-1]


def test_no_remote_is_one_line_for_push_and_no_hindrance_for_pull(repository, switchback):
    (repository / ".dvc/config").write_text("[core]\n    analytics = false\n")
    assert made(pull=True) == COMPUTED
    code, _, err = switchback("push")
    assert code == 2
    assert "no DVC remote. Fix: set DVC_REMOTE_URL" in err
