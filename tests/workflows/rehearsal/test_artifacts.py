import pytest

from tests.workflows.rehearsal.artifacts import Artifacts, Refused


@pytest.fixture
def workspace(tmp_path):
    for name in ("a/one.txt", "a/b/two.txt", "a/.hidden/three.txt", "data/x.json", "data/x.npz", "top.txt"):
        path = tmp_path / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "workspace"


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "artifacts")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("path", "hidden", "inside"),
    [
        ("top.txt", False, ["top.txt"]),
        ("a", False, ["b/two.txt", "one.txt"]),
        ("a", True, [".hidden/three.txt", "b/two.txt", "one.txt"]),
        ("a/", False, ["b/two.txt", "one.txt"]),
        ("a/*/two.txt", False, ["b/two.txt"]),
        ("a\ntop.txt\n", False, ["a/b/two.txt", "a/one.txt", "top.txt"]),
        ("data/*.json\na/b\n", False, ["a/b/two.txt", "data/x.json"]),
        ("a\n!a/b/*\n", False, ["one.txt"]),
        ("nothing\ntop.txt\n", False, ["top.txt"]),
    ],
)
def test_paths_inside_begin_below_what_the_search_paths_share(artifacts, workspace, path, hidden, inside, tmp_path):
    artifacts.upload("kept", workspace, path, include_hidden_files=hidden)
    artifacts.download("kept", tmp_path / "got")
    assert files(tmp_path / "got") == inside


def test_no_files_are_an_error_only_where_that_is_said(artifacts, workspace):
    assert artifacts.upload("kept", workspace, "nothing") == 0
    with pytest.raises(Refused, match="no files were found"):
        artifacts.upload("kept", workspace, "nothing", if_no_files_found="error")
    assert artifacts.names() == []


def test_a_name_is_taken_once_unless_it_may_be_overwritten(artifacts, workspace, tmp_path):
    artifacts.upload("kept", workspace, "a")
    with pytest.raises(Refused, match="is there already"):
        artifacts.upload("kept", workspace, "top.txt")
    artifacts.upload("kept", workspace, "top.txt", overwrite=True)
    artifacts.download("kept", tmp_path / "got")
    assert files(tmp_path / "got") == ["top.txt"]


def test_an_artifact_that_nobody_left_is_refused_by_name(artifacts, tmp_path):
    with pytest.raises(Refused, match="no artifact 'kept'"):
        artifacts.download("kept", tmp_path)


def test_permissions_are_lost(artifacts, workspace, tmp_path):
    (workspace / "top.txt").chmod(0o755)
    artifacts.upload("kept", workspace, "top.txt")
    artifacts.download("kept", tmp_path / "got")
    assert not (tmp_path / "got/top.txt").stat().st_mode & 0o111
