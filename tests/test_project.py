"""Where a person reads on, in this repository and in others."""

import ast
import re
import sys
from pathlib import Path

import pytest

from ci_tools.project import document, repository
from tests.installation import install

ROOT = Path(__file__).parents[1]
HOME = "https://example.org/it/switchback"
DOCUMENT = re.compile(r"docs/\w+\.md")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make this package look as if it were installed with such metadata."""

    def load(*metadata):
        monkeypatch.setattr(sys, "path", [install(tmp_path / "site", *metadata), *sys.path])

    return load


def test_repository_is_the_one_that_the_metadata_name(installed):
    installed("Project-URL: Changelog, https://example.org/changes", f"Project-URL: Repository, {HOME}/")
    assert repository() == HOME


def test_metadata_without_addresses_name_no_repository(installed, tmp_path, monkeypatch):
    installed()
    monkeypatch.chdir(tmp_path)
    assert (repository(), document("docs/adopt.md")) == ("", "docs/adopt.md")


def test_package_that_is_not_installed_names_no_repository(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert repository() == ""


def test_document_is_a_path_in_its_own_repository_and_an_address_in_others(installed, tmp_path, monkeypatch):
    installed(f"Project-URL: Repository, {HOME}")
    monkeypatch.chdir(ROOT)
    assert document("docs/adopt.md") == "docs/adopt.md"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/adopt.md").write_text("Of children.")
    monkeypatch.chdir(tmp_path)
    assert document("docs/adopt.md#4-release") == f"{HOME}/blob/HEAD/docs/adopt.md#4-release"


def test_document_is_an_address_where_the_working_directory_is_gone(installed, tmp_path, monkeypatch):
    """As under a service that outlives the folder it was started in."""
    installed(f"Project-URL: Repository, {HOME}")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert document("docs/release.md") == f"{HOME}/blob/HEAD/docs/release.md"


def test_each_document_that_the_program_names_is_one_and_goes_through_document():
    found = {}
    for path in (ROOT / "ci_tools").rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        asked = {id(word) for call in calls for word in call.args if getattr(call.func, "id", "") == "document"}
        for node in nodes:
            if isinstance(node, ast.Constant) and DOCUMENT.search(str(node.value)) and id(node) not in docstrings:
                assert id(node) in asked, f"{path}: {node.value}"
                found[node.value.partition("#")[0]] = path
    assert found
    assert {name: path for name, path in found.items() if not (ROOT / name).is_file()} == {}


def test_pages_leave_the_names_of_documents_to_the_program():
    pages = [path for path in (ROOT / "ci_tools").rglob("*.html") if "vendor" not in path.parts]
    assert pages
    assert [path for path in pages if DOCUMENT.search(path.read_text())] == []
