"""What `switchback init` finds out about a repository, so that it need not ask."""

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ci_tools.adopt.training import Training, find
from ci_tools.errors import ConfigError
from ci_tools.git import asked

REQUIREMENTS = "requirements-switchback.txt"
OLDEST = (3, 11)
"""Python that this package needs."""
_GITHUB = re.compile(r"(?:^|[@/.])github\.com(?::\d+)?[:/](?P<name>[^/]+/[^/]+?)(?:\.git)?/?$")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One git repository, looked at from its root."""

    root: Path
    branch: str
    """What pull requests are merged into."""
    github: str
    """OWNER/NAME; empty where the remote is none of GitHub's."""
    elsewhere: str
    """Address of a remote on another host; empty without one."""
    python: str
    """Version that CI installs, e.g. 3.12."""
    packages: str
    """What pip installs for the project, as its arguments."""
    training: Training


def look(script: str = "") -> Repository:
    """The repository of the working directory.

    Raises:
        DependencyUnavailable: git is not installed.
        ConfigError: this is not the root of a git repository, or its training script is not found.
    """
    here = Path.cwd()
    root = asked("rev-parse", "--show-toplevel")
    if not root:
        raise ConfigError("not a git repository", where=here, fix="run `git init` here first")
    if Path(root).resolve() != here.resolve():
        raise ConfigError("not the root of the repository", where=here, fix=f"run it in {root}")
    names = asked("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    remote = asked("remote", "get-url", "origin")
    github = on_github(remote)
    return Repository(
        root=here,
        branch=_branch(),
        github=github,
        elsewhere="" if github else remote,
        python=_python(here),
        packages=_packages(here),
        # DVC and YAML could not name the others.
        training=find(here, [name for name in names if name and name.isprintable()], script),
    )


def on_github(remote: str) -> str:
    """OWNER/NAME of the repository with that address; empty where it is none of GitHub's."""
    found = _GITHUB.search(remote)
    return found["name"] if found else ""


def _branch() -> str:
    """The remote's default branch, else `main` or `master` where there is one, else the one that is checked out."""
    followed = asked("symbolic-ref", "--short", "refs/remotes/origin/HEAD").partition("/")[2]
    known = asked("for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/heads/master").split()
    return followed or next(iter(known), "") or asked("symbolic-ref", "--short", "HEAD") or "main"


def _python(root: Path) -> str:
    """From .python-version or pyproject.toml; else, or where that is too old, the one that runs now."""
    texts = [_text(root / ".python-version")]
    try:
        project = tomllib.loads(_text(root / "pyproject.toml")).get("project")
    except tomllib.TOMLDecodeError:
        project = None  # whoever builds the project is told by its tools
    texts.append(str(project.get("requires-python", "")) if isinstance(project, dict) else "")
    found = (re.match(r"\s*(?:>=|~=|==)?\s*(3)\.(\d+)", text) for text in texts)
    versions = [(int(one[1]), int(one[2])) for one in found if one]
    wanted = next((version for version in versions if version >= OLDEST), sys.version_info[:2])
    return ".".join(map(str, wanted))


def _packages(root: Path) -> str:
    """The project's own requirements, as far as files say them, and what `switchback` needs."""
    known = [f"--requirement {name}" for name in ("requirements.txt",) if (root / name).exists()]
    settings = _text(root / "pyproject.toml")
    is_package = (root / "setup.py").exists() or any(table in settings for table in ("[project]", "[build-system]"))
    known += ["--editable ."] if is_package else []
    return " ".join([*known, f"--requirement {REQUIREMENTS}"])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
