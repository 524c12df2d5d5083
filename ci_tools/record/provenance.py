"""Where a run came from: git commit, code files, data files. Works without git."""

import subprocess
import sys
from pathlib import Path

from ci_tools.config import digest
from ci_tools.errors import DataError
from ci_tools.repro.manifest import file_digest


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit (empty without a repository) and whether tracked files differ from it."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit.strip(), bool(_git(folder, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return "", False


def project_root(folder: Path) -> Path:
    """The git work tree around `folder`, or `folder` itself."""
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").strip())
    except (OSError, subprocess.CalledProcessError):
        return folder


def code_digests(root: Path) -> dict[str, str]:
    """SHA-256 of every Python source under `root` that this process has imported, by relative path."""
    root = root.resolve()
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None)
        if not source or not source.endswith(".py"):
            continue
        path = Path(source).resolve()
        if path.is_relative_to(root) and "site-packages" not in path.parts and path.is_file():
            found[path.relative_to(root).as_posix()] = file_digest(path)
    return dict(sorted(found.items()))


def data_digests(paths: list[str | Path]) -> dict[str, str]:
    """SHA-256 of each data file.

    Raises:
        DataError: a file is missing.
    """
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise DataError("no such data file", where=path, fix="run `switchback reproduce data`")
        found[Path(path).as_posix()] = file_digest(Path(path))
    return found


def digest_of(digests: dict[str, str]) -> str:
    """One SHA-256 for a set of named digests."""
    return digest(digests)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
