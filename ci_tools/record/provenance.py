"""Where a run came from: command, git commit, code files, data files. Works without git."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ci_tools.config import digest, leaves
from ci_tools.errors import ConfigError, DataError, RecordMismatch
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
from ci_tools.repro import fingerprint
from ci_tools.repro.manifest import file_digest

_INPUTS = (":(top)", ":(top,exclude,glob)**/dvc.lock")
"""To git: the whole work tree without DVC's lock files."""


def describe(params: dict[str, Any], seed: int, threads: int, data: list[str | Path], every: dict[str, int]) -> RunMeta:
    """run.json of a run that begins now in this process."""
    commit, dirty = git_state(Path.cwd())
    return RunMeta(
        schema_version=SCHEMA_VERSION,
        id=uuid.uuid4().hex[:12],
        status="running",
        command=list(sys.orig_argv),
        workdir=os.getcwd(),
        seed=seed,
        params=params,
        params_digest=digest(params),
        git_commit=commit,
        git_dirty=dirty,
        code={},
        code_digest="",
        data=data_digests(data),
        fingerprint=fingerprint.capture(threads),
        probe_every=every["probe"],
        checkpoint_every=every["checkpoint"],
        started=now(),
    )


def plain(params: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """The params as JSON holds them, so that those of a resumed run compare equal: tuples as lists, NaN refused.

    Raises:
        ConfigError: a value is no JSON value.
    """
    values = params.model_dump(mode="json") if isinstance(params, BaseModel) else dict(params)
    try:
        found: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"params: {error}", fix="use finite numbers, strings, lists and mappings") from None
    return found


def now() -> str:
    """UTC time, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit (empty without a repository) and whether tracked files differ from it, DVC's lock files aside.

    Those say what was made, and every stage that ends writes them; nothing is made from them.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *_INPUTS)
        return commit.strip(), bool(changes.strip())
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
        # Thousands of modules are not ours; resolving the path of each would take longer than hashing those that are.
        if not source or not source.endswith(".py") or "site-packages" in source or source.startswith(sys.base_prefix):
            continue
        path = Path(source).resolve()
        if path.is_relative_to(root) and path.is_file():
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


def refuse_change(before: RunMeta, now: RunMeta, where: Path) -> None:
    """Refuse to continue an unfinished record under other conditions.

    Raises:
        RecordMismatch: names the first parameter, file or layer that changed.
    """
    fix = "restore it to resume, or delete the record to start again"
    old, new = leaves(before.params), leaves(now.params)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            what = f"unfinished record was made with {key}={old.get(key)!r}, now {new.get(key)!r}"
            raise RecordMismatch(what, where=where, rule="a run resumes only under its own params", fix=fix)
    if before.seed != now.seed:
        raise RecordMismatch(f"unfinished record has seed {before.seed}, now {now.seed}", where=where, fix=fix)
    changed = sorted(
        name for name in before.data.keys() | now.data.keys() if before.data.get(name) != now.data.get(name)
    )
    # A module that only one of the two imported says nothing; one that both did must be the same.
    changed += sorted(name for name in before.code.keys() & now.code.keys() if before.code[name] != now.code[name])
    if changed:
        raise RecordMismatch(f"{changed[0]} changed since the unfinished record", where=where, fix=fix)
    if before.layers != now.layers:
        raise RecordMismatch("the network's layers changed since the unfinished record", where=where, fix=fix)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
