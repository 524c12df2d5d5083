"""Files of the working tree as a pull request: what a job without a writable clone can do."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from ci_tools.actions import run_url
from ci_tools.errors import DataError
from ci_tools.git import git
from ci_tools.report.github import Change, Proposed, Target
from ci_tools.report.github import propose as put


def propose(files: Sequence[Path], source: Path, branch: str, base: str, title: str) -> Proposed | None:
    """Propose those of the files that differ from HEAD; None where none does.

    Args:
        files: paths in the repository.
        source: folder below which the new ones lie by the same paths.
        branch: to put them on; overwritten.
        base: branch to merge into.
        title: of the pull request.

    Raises:
        DataError: a file is missing, is no text, or lies outside of the repository.
        ConfigError: this is not a git repository, or GitHub's environment is not there.
        SwitchbackError: the token may not, or GitHub is out of reach.
    """
    found = {path.as_posix(): _read(path, source) for path in files}
    changed = {name: text for name, text in found.items() if _committed(name) != text.encode()}
    if not changed:
        return None
    origin = f"Made by {run_url()}\n" if run_url() else ""
    why = "The files were made from this commit by a workflow. Review them as any change: its report says how they do."
    change = Change(git("rev-parse", "HEAD"), git("rev-parse", "HEAD^{tree}"), changed, f"{title}\n\n{why}\n{origin}")
    return put(Target.from_environment(), change, branch=branch, base=base)


def _read(path: Path, source: Path) -> str:
    rule = "a text file, by its path in the repository"
    if path.is_absolute() or ".." in path.parts:
        raise DataError("lies outside of the repository", where=path, rule=rule)
    try:
        return (source / path).read_bytes().decode()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be proposed ({error})", where=source / path, rule=rule) from None


def _committed(name: str) -> bytes | None:
    done = subprocess.run(["git", "show", f"HEAD:./{name}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
