"""Find the run record that a person names: a path, `REV:path`, or a git revision."""

from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from dvc_data.index.index import DataIndexDirError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ci_tools import storage
from ci_tools.errors import RecordError
from ci_tools.git import asked
from ci_tools.pipeline import open_repository


def resolve(name: str, folder: Path) -> Path:
    """A record folder on disk; one of another revision is fetched from DVC's cache or remote into `folder`.

    A bare revision stands for its release record, `runs/seed-N` with N the first of its seeds.

    Raises:
        RecordError: no such path or revision, or the revision's record is in neither cache nor remote.
        DependencyUnavailable: git is not installed.
    """
    if Path(name).exists():
        return Path(name)
    revision, _, path = name.partition(":")
    commit = asked("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        fix = "name a record folder or REV:path; `switchback run` makes records below runs/"
        raise RecordError("neither a path nor a git revision", where=name, fix=fix)
    path = path or f"runs/seed-{_release_seed(commit, name)}"
    open_repository().close()
    target = folder / path.strip("/").replace("/", "-")
    try:
        Repo.get(".", path, out=str(target), rev=commit, config=storage.settings())
    except (DvcException, SCMError, DataIndexDirError, FileNotFoundError) as error:
        if not asked("ls-tree", commit, "dvc.lock"):
            fix = "commit the dvc.lock that `switchback run` wrote"
            raise RecordError("has no dvc.lock, which says what its records are", where=revision, fix=fix) from error
        raise RecordError(
            f"cannot be fetched ({' '.join(str(error).split())})",
            where=f"{revision}:{path}",
            rule="the record must be in DVC's cache or remote, and dvc.lock committed",
            fix="run `dvc pull` there, or `dvc push` where it was made",
        ) from error
    return target


def _release_seed(commit: str, name: str) -> int:
    try:
        params = YAML(typ="safe", pure=True).load(asked("show", f"{commit}:params.yaml"))
        return int(params["seeds"][0])
    except (YAMLError, TypeError, KeyError, IndexError, ValueError):
        raise RecordError("its params.yaml names no seeds", where=name, fix="name the record as REV:path") from None
