"""What starts workflows, as GitHub tells it to them: the `github` context, and whose code it brings.

Payloads have the part of GitHub's that workflows and `switchback` read.
"""

import re
from dataclasses import dataclass, field, replace
from enum import Enum

REPOSITORY, FORK, MAIN = "octo/model", "mallory/model", "main"
WORKSPACE = "/workspace"
HEAD, MERGED, TIP = "a1" * 20, "b2" * 20, "c3" * 20
"""Commits: the head of a pull request, that head merged with main for a test, and the newest of main."""


class Code(Enum):
    """Whose code a commit holds."""

    NONE = "none"
    MAIN = "main's"
    QUEUED = "a merge group's"
    OWN = "a pull request's"
    FORK = "a fork's"

    @property
    def hostile(self):
        """Whether somebody without a right to write may have written it."""
        return self is Code.FORK


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    label: str
    kind: str
    code: Code
    """That GitHub checks out where a step names no commit."""
    payload: dict
    sha: str = TIP
    ref: str = "refs/heads/main"
    subject: Code | None = None
    """Whose code the event is about, where that is not what is checked out."""
    values: dict = field(default_factory=dict)
    """More of the `github` context."""

    @property
    def about(self):
        return self.subject or self.code

    @property
    def github(self):
        """The `github` context."""
        name = self.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return {
            "event_name": self.kind,
            "event": self.payload,
            "sha": self.sha,
            "ref": self.ref,
            "ref_name": name,
            "ref_type": "tag" if self.ref.startswith("refs/tags/") else "branch",
            "head_ref": self.payload.get("pull_request", {}).get("head", {}).get("ref", ""),
            "base_ref": self.payload.get("pull_request", {}).get("base", {}).get("ref", ""),
            "repository": REPOSITORY,
            "repository_owner": REPOSITORY.partition("/")[0],
            "server_url": "https://github.com",
            "api_url": "https://api.github.com",
            "actor": "mallory" if self.about is Code.FORK else "octo",
            "triggering_actor": "mallory" if self.about is Code.FORK else "octo",
            "run_id": "1",
            "run_number": "1",
            "run_attempt": "1",
            "token": "token",
            "workspace": WORKSPACE,
        } | self.values


def repository(name=REPOSITORY):
    return {"full_name": name, "fork": name != REPOSITORY, "default_branch": MAIN, "private": False}


def pull_request(*, head=HEAD, source=REPOSITORY, number=5, branch="deeper", base=TIP, merged=MERGED, action="opened"):
    """Opened or pushed to; its code is checked out merged with main."""
    pull = {
        "number": number,
        "state": "open",
        "draft": False,
        "labels": [],
        "head": {"sha": head, "ref": branch, "repo": repository(source)},
        "base": {"sha": base, "ref": MAIN, "repo": repository()},
        "merge_commit_sha": merged,
        "user": {"login": "mallory" if source != REPOSITORY else "octo"},
    }
    code = Code.OWN if source == REPOSITORY else Code.FORK
    payload = {"action": action, "number": number, "pull_request": pull, "repository": repository()}
    label = "pull request" if source == REPOSITORY else "fork's pull request"
    return Event(label, "pull_request", code, payload, sha=merged, ref=f"refs/pull/{number}/merge")


def merge_group(*, head=MERGED, base=TIP):
    ref = f"refs/heads/gh-readonly-queue/main/pr-5-{base}"
    group = {"head_sha": head, "head_ref": ref, "base_sha": base, "base_ref": "refs/heads/main"}
    payload = {"action": "checks_requested", "merge_group": group, "repository": repository()}
    return Event("merge group", "merge_group", Code.QUEUED, payload, sha=head, ref=ref)


def push(*, after=TIP, before="0" * 40, branch=MAIN):
    ref = f"refs/heads/{branch}"
    payload = {"ref": ref, "before": before, "after": after, "repository": repository(), "deleted": False}
    payload["head_commit"] = {"id": after, "message": ""}
    code = Code.MAIN if branch == MAIN else Code.OWN
    return Event(f"push to {'main' if branch == MAIN else 'a branch'}", "push", code, payload, sha=after, ref=ref)


def schedule(*, sha=TIP):
    return Event("schedule", "schedule", Code.MAIN, {"schedule": "0 0 * * 0", "repository": repository()}, sha=sha)


def dispatch(*, inputs=None, sha=TIP):
    """Somebody with a right to write starts a workflow by hand, on main."""
    payload = {"inputs": inputs or {}, "ref": "refs/heads/main", "repository": repository()}
    return Event("dispatch", "workflow_dispatch", Code.MAIN, payload, sha=sha)


def workflow_run(source, workflow, *, conclusion="success", run_id=7, sha=TIP):
    """A run of another workflow, which `source` had started, has ended. Main's code is checked out."""
    pull = source.payload.get("pull_request", {})
    head = pull.get("head") or {"sha": source.sha, "ref": source.github["ref_name"], "repo": repository()}
    known = pull and head["repo"]["full_name"] == REPOSITORY  # of forks GitHub names no pull request
    run = {
        "id": run_id,
        "name": workflow.name,
        "path": workflow.path,
        "event": source.kind,
        "status": "completed",
        "conclusion": conclusion,
        "head_sha": head["sha"],
        "head_branch": head["ref"],
        "head_repository": head["repo"],
        "repository": repository(),
        "pull_requests": [{"number": pull["number"], "head": head, "base": pull["base"]}] if known else [],
        "run_attempt": 1,
        "html_url": f"https://github.com/{REPOSITORY}/actions/runs/{run_id}",
    }
    payload = {"action": "completed", "workflow_run": run, "workflow": {"name": workflow.name}}
    label = f"{workflow.file} ended ({source.label})"
    payload["repository"] = repository()
    return Event(label, "workflow_run", Code.MAIN, payload, sha=sha, subject=source.about)


def starts(workflow, event):
    """Whether an event starts a workflow. Paths are not looked at: they are the event's author's choice."""
    settings = workflow.on.get(event.kind)
    if settings is None:
        return False
    if event.kind == "pull_request":
        types = _listed(settings, "types") or ["opened", "synchronize", "reopened"]
        return event.payload["action"] in types and _branch(settings, event.github["base_ref"])
    if event.kind == "push":
        return _branch(settings, event.github["ref_name"]) and not ("tags" in settings and "branches" not in settings)
    if event.kind == "workflow_run":
        run = event.payload["workflow_run"]
        return run["name"] in _listed(settings, "workflows") and _branch(settings, run["head_branch"])
    return True


def actions(workflow):
    """The kinds of a pull request's events that the workflow listens to."""
    return _listed(workflow.on.get("pull_request", {}), "types") or ["opened"]


def as_action(event, action):
    """The same pull request's event, of another kind."""
    return replace(event, payload=event.payload | {"action": action, "label": {"name": "gpu"}})


def _listed(settings, name):
    value = settings.get(name, [])
    return [value] if isinstance(value, str) else value


def _branch(settings, name):
    if "branches-ignore" in settings:
        return not any(_fits(pattern, name) for pattern in _listed(settings, "branches-ignore"))
    fits = "branches" not in settings
    for pattern in _listed(settings, "branches"):
        if _fits(pattern.removeprefix("!"), name):
            fits = not pattern.startswith("!")
    return fits


def _fits(pattern, name):
    """`*` is anything but a slash, `**` anything."""
    parts = [
        ".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part) for part in re.split(r"(\*\*?)", pattern)
    ]
    return re.fullmatch("".join(parts), name) is not None
