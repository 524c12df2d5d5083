"""The DVC remote: where outputs are kept by content, and the run cache that says which inputs they were made from.

Which remote: DVC_REMOTE_URL where it is set, so that a pull request cannot name another one; else the repository's.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import RunCacheNotSupported
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.transfer import transfer

from ci_tools.console import say
from ci_tools.errors import ConfigError, DataError, DependencyUnavailable

URL = "DVC_REMOTE_URL"
"""Environment variable: address of the remote, such as s3://bucket/path, or a folder."""
_LEGACY = "md5-dos2unix"
"""By this name DVC finds where a store keeps its run cache."""


@dataclass(frozen=True)
class Moved:
    """What was sent."""

    entries: int
    """Files and run cache entries that were not there yet."""
    to: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"entries": self.entries, "to": self.to}

    def __str__(self) -> str:
        return f"{self.entries:,} entries sent to {self.to}"


def settings(url: str = "") -> dict[str, Any]:
    """DVC's configuration for a remote at `url`, else at DVC_REMOTE_URL; empty where neither is given."""
    url = url or os.environ.get(URL, "")
    if not url:
        return {}
    where = url if "://" in url else str(Path(url).resolve())
    return {"core": {"remote": "given"}, "remote": {"given": {"url": where}}}


def named(repo: Repo) -> str:
    """Address of the remote in force; empty where there is none."""
    remote = repo.config["core"].get("remote", "")
    return str(repo.config["remote"].get(remote, {}).get("url", "")) if remote else ""


def pull_run_cache(repo: Repo) -> bool:
    """Get the run cache's entries, without the outputs. False where there is no remote or it does not answer.

    Whatever is not had is computed again, so nothing is raised.
    """
    if not named(repo):
        say("no DVC remote: nothing to pull")
        return False
    try:
        repo.stage_cache.pull(None)
    except Exception as error:  # whatever a remote may answer
        say(f"not pulled: {_brief(error)}")
        return False
    return True


def pull_outputs(repo: Repo, stage: Any) -> None:
    """Get the outputs of a stage by the digests that it has, as far as the remote has them."""
    try:
        for objects in stage.get_used_objs().values():
            repo.cloud.pull(objects)
    except Exception as error:  # whatever a remote may answer
        say(f"not pulled: {_brief(error)}")


def pull_run(repo: Repo, stage: Any) -> None:
    """Get the outputs that the run cache names for a stage with these inputs."""
    if entry := repo.stage_cache._load(stage):
        pull_outputs(repo, repo.stage_cache._create_stage(entry, wdir=stage.wdir))


def gather(repo: Repo, folder: Path) -> Moved:
    """Copy what dvc.lock names, and the run cache, into a folder laid out as a remote; `repo` has it for its remote.

    Raises:
        DataError: an output that dvc.lock names is not in the cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _clear():
        return Moved(repo.push(run_cache=True), str(folder))


def push(repo: Repo, source: Path | None = None) -> Moved:
    """Send to the remote what dvc.lock names and the run cache, or what a job without rights gathered in `source`.

    Raises:
        ConfigError: there is no remote.
        DataError: `source` holds no cache, or a file whose content is not what its name says.
        DependencyUnavailable: the remote does not answer, or refuses.
    """
    where = named(repo)
    if not where:
        raise ConfigError("no DVC remote", fix=f"set {URL}, or run `dvc remote add --default`")
    if "://" not in where:
        say(f"the DVC remote is a folder of this machine: {where}")
    with _clear():
        return Moved(_forward(repo, source) if source else repo.push(run_cache=True), where)


def _forward(repo: Repo, source: Path) -> int:
    found = [HashInfo("md5", digest) for digest in _checked(source)]
    repo.config["remote"]["gathered"] = {"url": str(source.resolve())}
    target, origin = repo.cloud.get_remote_odb(), repo.cloud.get_remote_odb("gathered")
    sent = transfer(origin, target, found)
    if sent.failed:
        raise DependencyUnavailable(f"{len(sent.failed)} files were not taken", where=named(repo), fix="push again")
    runs = repo.stage_cache.transfer(
        repo.cloud.get_remote_odb("gathered", hash_name=_LEGACY), repo.cloud.get_remote_odb(hash_name=_LEGACY)
    )
    return len(sent.transferred) + len(runs)


def _checked(source: Path) -> Iterator[str]:
    """The digests that a gathered cache holds, each of which its file has."""
    root = source / "files" / "md5"
    paths = sorted(path for path in root.glob("??/*") if path.is_file())
    if not paths:
        raise DataError("holds no cache", where=source, fix="name a folder that `switchback push --to` wrote")
    for path in paths:
        digest = path.parent.name + path.name
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest.removesuffix(".dir") != content:
            raise DataError("is not what its name says", where=path, rule="a cache is named by content")
        yield digest


@contextmanager
def _clear() -> Iterator[None]:
    """DVC's errors in one line; its own lines about each missing file stay out."""
    logging.getLogger("dvc_data").setLevel(logging.ERROR)
    try:
        yield
    except RunCacheNotSupported as error:
        raise ConfigError(_brief(error), where=URL, fix="use a remote of another kind") from None
    except (DvcException, OSError) as error:
        raise DependencyUnavailable(f"was not reached ({_brief(error)})", where="DVC remote") from None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
