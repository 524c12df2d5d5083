"""CI of an adopted repository installs this package from where it came itself."""

import subprocess
import sys

import pytest

from ci_tools import __version__
from ci_tools.adopt.notes import notes
from ci_tools.adopt.origin import Origin, installed
from ci_tools.adopt.repository import REQUIREMENTS, look
from tests.installation import VERSION, install

HOME = "https://example.org/it/switchback"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """What is found of an installation with that direct_url.json."""

    def find(direct_url, *metadata):
        place = install(tmp_path / "site", *metadata, direct_url=direct_url)
        monkeypatch.setattr(sys, "path", [place, *sys.path])
        return installed()

    return find


def head(folder):
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_package_of_an_index_is_named_by_its_version(origin):
    assert origin(None) == Origin(requirement=f"=={VERSION}")


@pytest.mark.parametrize("url", ["https://example.org/me/fork.git", "ssh://git@example.org/me/fork"])
def test_commit_of_a_repository_is_named_whatever_branch_was_asked_for(origin, url):
    info = {"vcs": "git", "requested_revision": "main", "commit_id": COMMIT}
    assert origin({"url": url, "vcs_info": info}) == Origin(requirement=f" @ git+{url}@{COMMIT}")


@pytest.mark.parametrize("url", ["https://github.com/me/fork.git", "ssh://git@github.com/me/fork"])
def test_commit_of_github_is_fetched_without_a_key(origin, url):
    found = origin({"url": url, "vcs_info": {"vcs": "git", "commit_id": COMMIT}})
    assert found == Origin(requirement=f" @ git+https://github.com/me/fork@{COMMIT}")


def test_archive_is_named_by_its_address(origin):
    url = "https://example.org/switchback_ci-9.9.9-py3-none-any.whl"
    assert origin({"url": url, "archive_info": {}}) == Origin(requirement=f" @ {url}")


@pytest.mark.parametrize("address", ["https://github.com/me/fork", "git@github.com:me/fork.git"])
def test_clone_from_github_is_named_by_what_is_checked_out(origin, stranger, git, address):
    git("remote", "add", "origin", address)
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    found = origin({"url": stranger.as_uri(), "dir_info": {"editable": True}})
    assert found == Origin(requirement=f" @ git+https://github.com/me/fork@{head(stranger)}")


def test_commit_that_was_installed_from_a_clone_need_not_be_checked_out(origin, stranger, git):
    git("remote", "add", "origin", "https://github.com/me/fork")
    git("tag", "v1")
    commit = head(stranger)
    git("commit", "--quiet", "--allow-empty", "-m", "more")
    found = origin({"url": stranger.as_uri(), "vcs_info": {"vcs": "git", "commit_id": commit}})
    assert found == Origin(requirement=f" @ git+https://github.com/me/fork@{commit}")


def test_commit_that_github_need_not_have_is_noted(origin, stranger, git):
    git("remote", "add", "origin", "https://github.com/me/fork")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("commit", "--quiet", "--allow-empty", "-m", "of mine alone")
    found = origin({"url": stranger.as_uri(), "dir_info": {"editable": True}})
    assert found.unpushed == head(stranger)
    assert found.requirement.endswith(f"@{head(stranger)}")
    (note, *_) = notes(look(), found, {}, ())
    assert note.startswith(
        f"{REQUIREMENTS} names commit {head(stranger)[:12]} of switchback-ci, which no branch or tag"
    )


@pytest.mark.parametrize("place", [".", "folder", "gone", "a wheel.whl"])
def test_place_of_this_machine_alone_gives_way_to_the_release(origin, stranger, git, place):
    """A clone from elsewhere; a folder within a clone from GitHub; nothing; a file."""
    git("remote", "add", "origin", "/srv/it.git" if place == "." else "https://github.com/me/it")
    (stranger / "folder").mkdir()
    (stranger / "a wheel.whl").touch()
    found = origin({"url": (stranger / place).as_uri(), "dir_info": {}}, f"Project-URL: Repository, {HOME}")
    assert found == Origin(requirement=f" @ git+{HOME}@v{__version__}", unreachable=str(stranger / place))


def test_release_is_named_by_its_version_where_no_repository_is_known(origin, tmp_path):
    assert origin({"url": tmp_path.as_uri(), "dir_info": {}}).requirement == f"=={__version__}"


def test_package_that_is_not_installed_came_from_a_folder(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert installed().requirement
