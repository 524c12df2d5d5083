"""What stands for the actions of others on this machine. One that is not here is an error: nothing is passed over."""

import hashlib
import subprocess
from pathlib import Path

from tests.workflows.events import REPOSITORY
from tests.workflows.language import text
from tests.workflows.rehearsal.artifacts import Refused


class Unknown(Exception):
    """The rehearsal cannot do what a workflow asks for."""


def checkout(job, given):
    """A clone at the commit, with one commit of history unless more is asked for."""
    _only(given, "ref", "fetch-depth", "persist-credentials", "repository")
    if given.get("repository", REPOSITORY) != REPOSITORY:
        raise Unknown(f"a checkout of {given['repository']}")
    github = job.contexts["github"]
    ref = given.get("ref") or github["sha"]
    workspace, origin = job.workspace, f"file://{job.forge.origin}"
    git("init", "--quiet", cwd=workspace)
    git("remote", "add", "origin", origin, cwd=workspace)
    history = ["--depth=1"]
    if text(given.get("fetch-depth", 1)) == "0":
        history = []
        git("fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", cwd=workspace)
    git("fetch", "--quiet", *history, "origin", ref, cwd=workspace)
    branch = [] if given.get("ref") or github["ref"].startswith("refs/pull/") else ["-B", github["ref_name"]]
    git("checkout", "--quiet", *branch, "FETCH_HEAD", cwd=workspace)
    return {"commit": git("rev-parse", "HEAD", cwd=workspace)}


def upload(job, given):
    _only(given, "name", "path", "if-no-files-found", "overwrite", "include-hidden-files", "retention-days")
    kept = job.run.artifacts.upload(
        given.get("name", "artifact"),
        job.workspace,
        given["path"],
        if_no_files_found=given.get("if-no-files-found", "warn"),
        overwrite=text(given.get("overwrite")) == "true",
        include_hidden_files=text(given.get("include-hidden-files")) == "true",
    )
    return {"artifact-id": str(kept)}


def download(job, given):
    _only(given, "name", "path", "run-id", "github-token")
    run = job.run
    if number := given.get("run-id"):
        if job.permissions.get("actions") not in ("read", "write") or not given.get("github-token"):
            raise Refused("another run's artifacts need a token that may read actions")
        run = job.forge.runs[int(number)]
    target = job.workspace / (given.get("path") or ".")
    run.artifacts.download(given["name"], target)
    return {"download-path": str(target)}


def attest(job, given):
    """Nobody signs; what would be attested is kept, by digest."""
    _only(given, "subject-path")
    for right in ("id-token", "attestations"):
        if job.permissions.get(right) != "write":
            raise Refused(f"the token may not write {right}")
    subjects = sorted(path for path in job.workspace.glob(given["subject-path"]) if path.is_file())
    if not subjects:
        raise Refused(f"no subject at {given['subject-path']}")
    job.run.attested |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in subjects}
    return {}


def set_up_python(job, given):
    """The interpreter is the one that runs the rehearsal."""
    return {"python-version": text(given.get("python-version"))}


EQUIVALENTS = {
    "actions/checkout": checkout,
    "actions/setup-python": set_up_python,
    "actions/upload-artifact": upload,
    "actions/download-artifact": download,
    "actions/attest": attest,
    "actions/attest-build-provenance": attest,
}


def act(job, uses, given):
    """Do what an action would; returns its outputs.

    Raises:
        Refused: the action would fail.
        Unknown: nothing stands for it.
    """
    name = uses.partition("@")[0]
    if name not in EQUIVALENTS:
        raise Unknown(f"nothing stands for the action {uses}")
    return EQUIVALENTS[name](job, given)


def git(*arguments, cwd):
    """What git says; raises Refused where it fails."""
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def origin_at(folder):
    """A repository from which any commit can be fetched, as from GitHub."""
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=folder)
    return Path(folder)


def _only(given, *known):
    if more := given.keys() - set(known):
        raise Unknown(f"an action's input {', '.join(sorted(more))}")
