"""The documentation site: built without a warning, readable without a network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the package sphinx: pip install 'switchback-ci[docs]'")
pytest.importorskip("myst_parser", reason="needs the package myst-parser: pip install 'switchback-ci[docs]'")
pytest.importorskip("furo", reason="needs the package furo: pip install 'switchback-ci[docs]'")

ROOT = Path(__file__).parents[1]
SOURCES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs")


def build(source, out):
    """As `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--conf-dir", "docs", ".", str(out)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_document_is_a_page_and_in_the_navigation(site):
    start = (site / "README.html").read_text()
    for document in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{document.stem}.html").exists()
        assert f'href="docs/{document.stem}.html"' in start


def test_pages_load_nothing_from_elsewhere(site):
    pages = "".join(page.read_text() for page in site.rglob("*.html"))
    loaded = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)=\"([^\"]+)\"", pages)
    assert any("style.css" in address for address in loaded)
    assert [address for address in loaded if re.match(r"(?:https?:)?//", address)] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text()), sheet


def test_pictures_and_the_start_page_come_along(site):
    assert 'url=README.html"' in (site / "index.html").read_text()
    for page in site.rglob("*.html"):
        for picture in re.findall(r"<img\b[^>]*?src=\"([^\"]+)\"", page.read_text()):
            assert picture.startswith("data:") or (page.parent / picture).exists(), (page, picture)


def test_dead_links_stop_the_build(tmp_path):
    dead = ["record.md#nothing-of-this-name", "nowhere.md", "#not-here"]
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/conf.py", tmp_path / "docs/conf.py")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text(f"# {name}\n")
    shutil.copytree(ROOT / "docs/site", tmp_path / "docs/site")
    for document in (ROOT / "docs").glob("*.md"):
        (tmp_path / "docs" / document.name).write_text(f"# {document.stem}\n")
    (tmp_path / "docs/data.md").write_text("# Data\n\n" + "\n\n".join(f"[gone]({link})" for link in dead))
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    for link in dead:
        assert (link.partition("#")[2] or link) in done.stderr
