"""What started this run: the event file that GitHub Actions writes for every job."""

import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, PositiveInt, StringConstraints, ValidationError

from ci_tools.errors import ConfigError, DataError

SHA = r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$"
"""A full commit id; 64 digits in repositories that use SHA-256."""
_FIX = "set GITHUB_EVENT_PATH to the file that GitHub Actions wrote for this job"
REPOSITORY = r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"


class Head(NamedTuple):
    """The commit that a run was started for, and where it lies. The branch's name is its author's choice: hostile."""

    sha: str
    repository: str
    """owner/name, of a fork's pull request the fork; empty where that repository is gone."""
    branch: str


class Event(NamedTuple):
    """What the event file says about the commit under test."""

    kind: Literal["pull_request", "workflow_run", "merge_group", "push", "workflow_dispatch"]
    head: Head
    """Of a dispatch only the commit is known, which a maintainer named."""
    pull_request: int | None
    """Number; None where the event names none or several, as `workflow_run` does for forks."""
    before: str = ""
    """Commit of the branch before a push; empty for what is none, or made the branch."""


def read_event(path: str | Path | None = None) -> Event:
    """Read the event file, by default the one that GITHUB_EVENT_PATH names.

    Raises:
        ConfigError: no path is given or set.
        DataError: the file is missing, is not JSON, lacks what its kind of event must have, or is of another kind.
    """
    path = _event_file(path)
    found = _read(path)
    if isinstance(found, str):
        raise DataError(found, where=path, fix="report from one of those events")
    return found


def find_event(path: str | Path | None = None) -> Event | None:
    """The same where any event may have started the run; None for one that carries no commit, a schedule for instance.

    Raises:
        ConfigError: no path is given or set.
        DataError: the file is missing, is not JSON, or lacks what its kind of event must have.
    """
    found = _read(_event_file(path))
    return None if isinstance(found, str) else found


def _event_file(path: str | Path | None) -> Path:
    path = path or os.environ.get("GITHUB_EVENT_PATH")
    if not path:
        raise ConfigError("GITHUB_EVENT_PATH is not set", fix="run this in GitHub Actions, or name the event file")
    return Path(path)


def _read(path: Path) -> Event | str:
    """The event, or why it is none that can be reported on."""
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, fix=_FIX) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        rule = "not an event that GitHub sent"
        raise DataError(f"{key}: {first['msg'].lower()}", where=path, rule=rule, fix=_FIX) from None


Sha = Annotated[str, StringConstraints(pattern=SHA)]


class _Payload(BaseModel):
    """Part of an event; GitHub sends far more than is needed here, and may add to it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Repository(_Payload):
    full_name: Annotated[str, StringConstraints(pattern=REPOSITORY)]


class _Ref(_Payload):
    sha: Sha
    ref: str
    repo: _Repository | None


class _PullRequest(_Payload):
    number: PositiveInt
    head: _Ref


class _Listed(_Payload):
    number: PositiveInt


class _Run(_Payload):
    head_sha: Sha
    head_branch: str | None
    head_repository: _Repository | None
    pull_requests: list[_Listed]


class _Group(_Payload):
    head_sha: Sha
    head_ref: str


class _Inputs(_Payload):
    """What a maintainer typed to have a fork's commit run."""

    sha: Sha
    pull_request: PositiveInt | Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,9}$")]


class _Event(_Payload):
    repository: _Repository
    inputs: dict[str, object] | None = None
    workflow_run: _Run | None = None
    merge_group: _Group | None = None
    pull_request: _PullRequest | None = None
    before: Sha | None = None
    after: Sha | None = None
    ref: str = ""


def _parse(text: bytes) -> Event | str:
    event = _Event.model_validate_json(text)
    here = event.repository.full_name
    if run := event.workflow_run:
        numbers = [listed.number for listed in run.pull_requests]
        head = Head(run.head_sha, _name(run.head_repository), run.head_branch or "")
        return Event("workflow_run", head, numbers[0] if len(numbers) == 1 else None)
    if group := event.merge_group:
        return Event("merge_group", Head(group.head_sha, here, _branch(group.head_ref)), None)
    if pull := event.pull_request:
        return Event("pull_request", Head(pull.head.sha, _name(pull.head.repo), pull.head.ref), pull.number)
    if event.inputs and "pull_request" in event.inputs:
        named = _Inputs.model_validate(event.inputs)
        return Event("workflow_dispatch", Head(named.sha, "", ""), int(named.pull_request))
    if event.after and event.after.rstrip("0"):
        before = event.before if event.before and event.before.rstrip("0") else ""
        return Event("push", Head(event.after, here, _branch(event.ref)), None, before)
    if event.after:
        return "a push that deleted a branch leaves no commit; only other pushes can be reported on"
    return "carries no commit; only pull_request, workflow_run, push and merge_group events do, and approved forks"


def _name(repository: _Repository | None) -> str:
    return repository.full_name if repository else ""


def _branch(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
