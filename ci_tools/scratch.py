"""Scratch copies of the pipeline: another revision, or the files as they are now, run with other seeds.

A copy is a git worktree under .switchback/ that shares DVC's cache: what was computed once is restored, what was
interrupted resumes, and neither params.yaml nor dvc.lock of the user changes. Any copy may be deleted at any time.
"""

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.config import Config, merge
from dvc.repo import Repo

from ci_tools import storage
from ci_tools.config import read_yaml
from ci_tools.console import say, stdout_to_stderr
from ci_tools.errors import INTERRUPTED, ConfigError, SwitchbackError, run_stage
from ci_tools.git import git
from ci_tools.pipeline import open_repository, reproduce

FOLDER = Path(".switchback")
KEPT = 3
"""Copies of one kind that stay on disk; DVC's cache can bring back the others."""
LARGEST = 10_000_000
"""Bytes of an untracked file that a copy still gets: in git's store each version of it would stay for weeks."""
# The same files always make the same commit, so that a repeated command finds its copy.
_NOBODY = {f"GIT_{who}_{what}": "switchback" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
_NO_TIME = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}


def snapshot() -> str:
    """A commit of the files as they are now; HEAD where nothing differs from it.

    Without files that git ignores, and without untracked ones of more than 10 MB, which are named on stderr. Neither
    the index nor a branch moves. Law: snapshot() == snapshot() while no file changes.
    """
    with TemporaryDirectory(prefix="switchback-") as folder:
        index = Path(folder, "index")
        current = Path(git("rev-parse", "--git-path", "index"))
        if current.exists():
            shutil.copyfile(current, index)  # its time stamps spare git the hashing of unchanged files
        git("add", "--all", "--", ":/", *_too_large(), GIT_INDEX_FILE=str(index))
        tree = git("write-tree", GIT_INDEX_FILE=str(index))
    head = git("rev-parse", "HEAD")
    if tree == tree_of(head):
        return head
    return git("commit-tree", tree, "-p", head, "-m", "The working tree", **_NOBODY, **_NO_TIME)


def _too_large() -> list[str]:
    """Pathspecs that leave out the large untracked files."""
    top = Path(git("rev-parse", "--show-toplevel"))
    names = git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/").split("\0")
    large = [name for name in names if name and (top / name).lstat().st_size > LARGEST]
    if large:
        size = f"{LARGEST // 1_000_000} MB"
        say(f"left out, untracked and larger than {size}: {', '.join(large)} (`git add` or ignore them)")
    return [f":(top,exclude,literal){name}" for name in large]


def tree_of(commit: str) -> str:
    """The digest of a commit's files: two commits with the same one hold the same."""
    return git("rev-parse", f"{commit}^{{tree}}")


def checkout(kind: str, commit: str) -> Path:
    """The copy of a commit under `.switchback/KIND/`, made if it is not there.

    Outputs that the commit's dvc.lock promises are fetched from the remote, if there is one and it has them.

    Raises:
        ConfigError: the commit has no DVC set up, or git refuses.
    """
    folder = FOLDER.resolve() / kind / commit[:12]
    ready = folder / ".dvc" / Config.CONFIG_LOCAL
    if ready.exists():
        os.utime(folder)
        return folder
    if not git("ls-tree", commit, ".dvc"):
        raise ConfigError("has no DVC set up", where=f"revision {commit[:12]}", fix="commit what `dvc init` made")
    shutil.rmtree(folder, ignore_errors=True)  # one that was interrupted
    git("worktree", "prune")
    git("worktree", "add", "--detach", str(folder), commit)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    _use_cache_of_here(folder)
    _fetch(folder)
    _forget_old(folder)
    return folder


def run_pipeline(folder: Path, seeds: Sequence[int], targets: Sequence[str] = (), force: bool = False) -> None:
    """Bring a copy's pipeline, or `targets` of it, up to date with these seeds.

    It is `switchback reproduce` in a process of its own, because the copy's code and the user's have the same names.

    Raises:
        SwitchbackError: a stage failed or was told to stop; its message and exit code.
        KeyboardInterrupt: Ctrl-C; finished stages and checkpoints stay.
    """
    settings = [] if read_yaml(folder / "params.yaml").get("seeds") == list(seeds) else [f"seeds={list(seeds)}"]
    # -P: of two ci_tools, one in the copy, the installed one walks the pipeline.
    command = [sys.executable, "-P", "-m", "ci_tools.scratch", *targets, *(f"--set={setting}" for setting in settings)]
    command += ["--force"] if force else []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            answer, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()  # the terminal told it, too: it is saving its state
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode:
        failure = SwitchbackError(answer or "the pipeline failed", where=folder.relative_to(Path.cwd()))
        failure.exit_code = process.returncode
        raise failure


def _use_cache_of_here(folder: Path) -> None:
    """Give a copy the DVC settings of the working directory, its cache and remotes above all, by absolute paths."""
    here = open_repository()
    settings = here.config.load_one("repo")
    merge(settings, here.config.load_one("local"))
    settings["cache"]["dir"] = here.cache.local_cache_dir
    here.close()
    with Config(str(folder / ".dvc"), validate=False).edit("local") as local:
        local.update(settings)


def _fetch(folder: Path) -> None:
    logging.getLogger("dvc_data").setLevel(logging.ERROR)  # it would list every digest that the remote lacks
    copy = Repo(str(folder), config=storage.settings())
    if copy.config["core"].get("remote") and (folder / "dvc.lock").exists():
        try:
            copy.fetch()
        except Exception as error:  # whatever a remote may answer: what it does not give is computed again
            say(f"not fetched: {' '.join(str(error).split())}")
    copy.close()


def _forget_old(newest: Path) -> None:
    copies = sorted((path for path in newest.parent.iterdir() if path != newest), key=lambda path: path.stat().st_mtime)
    for path in copies[: -(KEPT - 1)]:
        shutil.rmtree(path)
    git("worktree", "prune")


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk the pipeline of the working directory; why it failed goes to stdout, everything else to stderr."""
    parser = argparse.ArgumentParser(prog="python -m ci_tools.scratch", description=main.__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)

    def work() -> None:
        with stdout_to_stderr():
            repo = open_repository()
            remote = storage.named(repo)  # a dvc.lock that nobody renewed names nothing that could be fetched before
            repo.close()
            reproduce(options.targets, options.force, options.set, pull=bool(remote))

    return run_stage(work, tell=lambda failure: sys.stdout.write(str(failure)))


if __name__ == "__main__":
    sys.exit(main())
