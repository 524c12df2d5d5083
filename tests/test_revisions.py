import pytest

from ci_tools.errors import DependencyUnavailable, RecordError
from ci_tools.experiment import change
from ci_tools.pipeline import reproduce
from ci_tools.revisions import resolve


@pytest.fixture
def two_versions(repository, git):
    """`old` trained 10 steps, HEAD trained 20; both are in DVC's cache."""
    reproduce()
    git("add", "--all")
    git("commit", "--quiet", "-m", "10 steps")
    git("tag", "old")
    change(["train.steps=20"])
    reproduce()
    git("add", "--all")
    git("commit", "--quiet", "-m", "20 steps")
    return repository


def test_revision_stands_for_its_release_and_path_picks_another(two_versions, tmp_path_factory):
    for name, text in (("old", "10 steps"), ("HEAD", "20 steps"), ("old:runs/seed-2", "10 steps")):
        record = resolve(name, tmp_path_factory.mktemp("fetched"))
        assert (record / "state").read_text().startswith(text)
    assert record.name == "runs-seed-2"


def test_existing_path_is_taken_as_it_is(two_versions, tmp_path):
    assert str(resolve("runs/seed-1", tmp_path)) == "runs/seed-1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "neither a path nor a git revision"),
        ("HEAD:runs/seed-9", "cannot be fetched"),
        ("old~1", "old~1: has no dvc.lock, .* Fix: commit the dvc.lock"),
    ],
)
def test_unknown_record_is_one_clear_error(two_versions, tmp_path_factory, name, message):
    with pytest.raises(RecordError, match=message):
        resolve(name, tmp_path_factory.mktemp("fetched"))


def test_missing_git_program_is_one_clear_error(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyUnavailable, match="git is not installed"):
        resolve("HEAD", tmp_path)


def test_revision_without_seeds_asks_for_a_path(repository, git, tmp_path_factory):
    (repository / "params.yaml").write_text("train: {steps: 1}\n")
    git("commit", "--quiet", "--all", "-m", "no seeds")
    with pytest.raises(RecordError, match="REV:path"):
        resolve("HEAD", tmp_path_factory.mktemp("fetched"))
