"""Which files are written, which stay, and what stands in the way."""

import pytest

from ci_tools.adopt.plan import Kind, extended, plan, write
from ci_tools.errors import ConfigError

WANTED = {"new.txt": "new\n", "folder/same.txt": "same\n", "mine.txt": "theirs\n", ".gitignore": "mine\nours\n"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, text in {"folder/same.txt": "same\n", "mine.txt": "mine\n", ".gitignore": "mine\n"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def kinds(changes):
    return {change.path: change.kind for change in changes}


def test_files_that_differ_stay_and_lists_are_extended(root):
    changes = plan(root, WANTED)
    assert kinds(changes) == {"new.txt": Kind.NEW, "mine.txt": Kind.KEPT, ".gitignore": Kind.EXTENDED}
    write(root, changes)
    assert (root / "mine.txt").read_text() == "mine\n"
    assert (root / ".gitignore").read_text() == "mine\nours\n"
    assert kinds(plan(root, WANTED)) == {"mine.txt": Kind.KEPT}


def test_force_replaces_them(root):
    changes = plan(root, WANTED, force=True)
    assert kinds(changes)["mine.txt"] is Kind.REPLACED
    write(root, changes)
    assert {name: (root / name).read_text() for name in WANTED} == WANTED
    assert plan(root, WANTED, force=True) == []


def test_bytes_that_are_no_text_are_somebodys_file(root):
    (root / "mine.txt").write_bytes(b"\xff\xfe")
    assert kinds(plan(root, WANTED))["mine.txt"] is Kind.KEPT


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "a\nb\n"), ("x\n", "x\na\nb\n"), ("x", "x\na\nb\n"), ("x\r\ny", "x\r\ny\r\na\r\nb\r\n")],
)
def test_lines_are_added_at_the_end_and_end_as_the_others(before, after):
    assert extended(before, "ab") == after
    assert extended(before, []) == before


@pytest.mark.parametrize(
    ("path", "words"), [("folder", "is a folder"), ("mine.txt/deep/x", "is a file"), ("gone/x", "is a file")]
)
def test_what_stands_in_the_way_is_named_before_anything_is_written(root, path, words):
    (root / "gone").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=words):
        plan(root, {"new.txt": "new\n", path: ""})
    assert not (root / "new.txt").exists()


def test_link_out_of_the_repository_is_not_followed(root, tmp_path_factory):
    (root / "link").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ConfigError, match=r"link/x: leads out of the repository"):
        plan(root, {"link/x": ""})
