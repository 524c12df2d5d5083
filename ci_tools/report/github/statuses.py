"""What GitHub shows beside a commit: its status, its deployments and how they fare."""

from typing import TYPE_CHECKING, Literal

from ci_tools.report.github.failures import Deed
from ci_tools.report.github.session import Patience, connect
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github.CommitStatus import CommitStatus
    from github.Deployment import Deployment
    from github.DeploymentStatus import DeploymentStatus

CommitState = Literal["error", "failure", "pending", "success"]
DeploymentState = Literal["error", "failure", "inactive", "in_progress", "queued", "pending", "success"]
LONGEST = 140
"""Characters that GitHub takes in a description."""


def commit_status(
    target: Target,
    sha: str,
    state: CommitState,
    description: str = "",
    *,
    context: str = "switchback",
    url: str | None = None,
    patience: Patience | None = None,
) -> None:
    """Say in a line how a commit fares. Of each context the newest status counts.

    Raises:
        SwitchbackError: there is no such commit, or the token may not.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"set the status of commit {sha[:12]} of {target.repository}", "statuses: write")
    line = shorten(description)
    with connect(target) as github:
        from github.Commit import Commit
        from github.GithubObject import NotSet

        # Asked for by `get_commit`, it would be read first, which takes one more permission.
        known = {"sha": sha, "url": f"{target.api_url}/repos/{target.repository}/commits/{sha}"}
        commit = github.create_from_raw_data(Commit, known)

        def create() -> "CommitStatus":
            return commit.create_status(state, url or NotSet, line, context)

        def find() -> "CommitStatus | None":
            newest = next((s for s in commit.get_combined_status().statuses if s.context == context), None)
            same = newest and (newest.state, newest.description or "", newest.target_url or None) == (state, line, url)
            return newest if same else None

        (patience or Patience()).create(create, find, deed)


def deployment(
    target: Target, sha: str, environment: str, *, description: str = "", patience: Patience | None = None
) -> int:
    """The deployment of a commit to an environment, created where there is none. Returns its id.

    A job with an `environment:` has one already, which GitHub made.

    Raises:
        SwitchbackError: there is no such commit, or the token may not.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"create a deployment to {environment} in {target.repository}", "deployments: write")
    patience = patience or Patience()
    with connect(target) as github:
        repository = github.get_repo(target.repository)

        def find() -> "Deployment | None":
            return next(iter(repository.get_deployments(sha=sha, environment=environment)), None)

        def create() -> "Deployment":
            # What to wait for was decided by gates; GitHub's own checks would count the running job as unfinished.
            return repository.create_deployment(
                sha,
                auto_merge=False,
                required_contexts=[],
                environment=environment,
                description=shorten(description),
            )

        return (patience.ask(find, deed) or patience.create(create, find, deed)).id


def deployment_status(
    target: Target,
    deployment_id: int,
    state: DeploymentState,
    description: str = "",
    *,
    log_url: str | None = None,
    environment_url: str | None = None,
    patience: Patience | None = None,
) -> None:
    """Say how a deployment fares; said again, nothing is added.

    `success` makes earlier deployments to the same environment inactive.

    Raises:
        SwitchbackError: there is no such deployment, or the token may not.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"set the status of deployment {deployment_id} in {target.repository}", "deployments: write")
    said = (state, shorten(description), log_url or "", environment_url or "")
    with connect(target) as github:
        from github.GithubObject import NotSet

        at = github.get_repo(target.repository).get_deployment(deployment_id)

        def create() -> "DeploymentStatus":
            return at.create_status(state, log_url or NotSet, said[1], environment_url=environment_url or NotSet)

        def find() -> "DeploymentStatus | None":
            newest = next(iter(at.get_statuses()), None)
            if newest is None:
                return None
            there = (newest.state, newest.description, newest.target_url or "", newest.environment_url or "")
            return newest if there == said else None

        patience = patience or Patience()
        if patience.ask(find, deed) is None:
            patience.create(create, find, deed)


def shorten(text: str) -> str:
    """One line that GitHub takes as a description.

    Law: len(shorten(text)) <= LONGEST
    """
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
