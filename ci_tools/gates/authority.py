"""Whose policy judges: the files of the commit itself, or those of a revision that the commit cannot change.

A pull request may loosen gates.yaml, calibration.json or the acceptance tests. Those of the base revision judge it in
the merge group, so that what it loosened counts for the next one, after review.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci_tools.errors import ConfigError, DependencyUnavailable

FOLDER = Path("gates/policy")
"""The files that judge, where they are another revision's; kept as evidence beside the verdicts."""
_ENVIRONMENT = "SWITCHBACK_POLICY_FOLDER"
"""Tells this process and its tests where they are."""
FILES = ("gates.yaml", "calibration.json", "tests/__init__.py", "tests/model")


def locate(file: Path) -> Path:
    """Where a file of the policy is to be read."""
    return Path(os.environ.get(_ENVIRONMENT, ""), file)


def kept(root: Path, file: Path) -> Path:
    """Where a file of the policy that judged the run under `root` is."""
    there = root / FOLDER
    return (there if there.is_dir() else root) / file


def forget() -> None:
    """Remove the policy of an earlier call."""
    shutil.rmtree(FOLDER, ignore_errors=True)


@contextmanager
def of(ref: str) -> Iterator[None]:
    """While the body runs, the policy of this revision judges; that of the working directory where `ref` is empty.

    Raises:
        ConfigError: no such revision, or it has no acceptance tests.
        DependencyUnavailable: git is not installed.
    """
    forget()
    if not ref:
        yield
        return
    _write(ref)
    os.environ[_ENVIRONMENT] = str(FOLDER)
    try:
        yield
    finally:
        del os.environ[_ENVIRONMENT]


def _write(ref: str) -> None:
    fix = "name a branch, tag or commit of this clone; in CI, fetch the whole history first"
    try:
        commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError:
        raise ConfigError("policy's revision unknown", where=ref, fix=fix) from None
    names = [
        name for name in _git("ls-tree", "-r", "-z", "--name-only", commit, "--", *FILES).decode().split("\0") if name
    ]
    if not any(name.startswith("tests/model/") for name in names):
        rule = "a policy needs tests that ask for its gates"
        raise ConfigError("has no tests/model", where=f"revision {ref}", rule=rule, fix="name a later revision")
    for name in names:
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_git("show", f"{commit}:{name}"))


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise DependencyUnavailable("git is not installed", fix="install git and put it on PATH") from None
