import pytest

from ci_tools.record.provenance import git_state


@pytest.fixture
def committed(tmp_path, monkeypatch, git):
    """The working directory: a repository with a lock at the top and one in a folder."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    (tmp_path / "part").mkdir()
    for name in ("params.yaml", "dvc.lock", "part/dvc.lock", "part/code.py"):
        (tmp_path / name).write_text("a: 1\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "first")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("params.yaml", True),
        ("part/code.py", True),
        ("dvc.lock", False),  # the stages before this one wrote it
        ("part/dvc.lock", False),
        ("untracked.txt", False),
    ],
)
def test_files_that_a_run_is_made_from_make_it_differ_from_its_commit(committed, name, dirty):
    assert git_state(committed)[1] is False
    (committed / name).write_text("a: 2\n")
    assert git_state(committed)[1] is dirty
    assert git_state(committed / "part")[1] is dirty


def test_removed_file_differs_and_a_removed_lock_does_not(committed):
    (committed / "dvc.lock").unlink()
    assert git_state(committed)[1] is False
    (committed / "params.yaml").unlink()
    assert git_state(committed)[1] is True


def test_folder_without_git_has_no_commit(tmp_path):
    assert git_state(tmp_path) == ("", False)
