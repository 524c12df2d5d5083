"""Whether results belong to the pull request that they name.

Results are written where a pull request's code ran, so what they say of themselves is a claim. GitHub's own word on the
run is not: the event file says which commit of which repository it was started for.
"""

from typing import TYPE_CHECKING

from ci_tools.errors import DataError
from ci_tools.report.github.event import Head, read_event
from ci_tools.report.github.failures import Deed
from ci_tools.report.github.session import Patience, connect
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github.PullRequest import PullRequest


def check_claim(
    results_head_sha: str,
    pull_request: int,
    *,
    target: Target | None = None,
    run: Head | None = None,
    patience: Patience | None = None,
) -> None:
    """Accept the claim of results to be those of a pull request, or raise.

    `run` is what the run that made the results was started for, by default as the event file says; `target` names the
    repository, by default as the environment does.

    Raises:
        DataError: the results, the run and the pull request do not agree.
        SwitchbackError: there is no such pull request, or the token must not see it.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    run = run or read_event().head
    target = target or Target.from_environment(pull_request)
    deed = Deed(f"read pull request #{pull_request} of {target.repository}", "pull-requests: read")
    with connect(target) as github:
        pull = github.get_repo(target.repository).get_pull(pull_request)
        # Values are read within, because GitHub may be asked for each, and may answer with another shape.
        actual = (patience or Patience()).ask(lambda: _head(pull), deed)
    if reason := contradiction(results_head_sha, run, actual):
        raise DataError(
            reason,
            where=f"pull request #{pull_request}",
            rule="results are published only on the pull request whose head they were made from",
            fix="nothing, if it moved on: its newer run reports; else distrust these results",
        )


def pull_request_of(run: Head, *, target: Target | None = None, patience: Patience | None = None) -> int | None:
    """The open pull request whose head a run was started for; None where there is none, or several.

    Of a fork's run, the event names none.

    Raises:
        SwitchbackError: the token must not see the repository's pull requests.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    owner, target = run.repository.partition("/")[0], target or Target.from_environment()
    if not (owner and run.branch):
        return None
    deed = Deed(f"list the pull requests of {target.repository}", "pull-requests: read")
    with connect(target) as github:
        pulls = github.get_repo(target.repository).get_pulls(state="open", head=f"{owner}:{run.branch}")
        listed = (patience or Patience()).ask(lambda: [(pull.number, _head(pull)) for pull in pulls], deed)
    found = [number for number, head in listed if not contradiction(run.sha, run, head)]
    return found[0] if len(found) == 1 else None


def _head(pull: "PullRequest") -> Head:
    head = pull.head
    found = Head(head.sha, head.repo.full_name if head.repo else "", head.ref)
    if not all(isinstance(value, str) for value in found):
        raise ValueError("a pull request whose head lacks its commit, repository or branch")
    return found


def contradiction(results_head_sha: str, run: Head, pull_request: Head) -> str:
    """Why the claim does not hold; empty where it does.

    The commit alone does not prove it. Anybody can push another one's commit to a fork and open a pull request with it;
    its run, forged results and all, would have the right SHA. So the repository and the branch must be the same, too.
    """
    if results_head_sha != run.sha:
        return f"the results say that they are of commit {results_head_sha[:12]!r}, but the run was of {run.sha[:12]}"
    if pull_request.sha != run.sha:
        return f"its head is {pull_request.sha[:12]}, but the run was of {run.sha[:12]}"
    if not run.repository or run.repository.lower() != pull_request.repository.lower():
        whose = pull_request.repository or "a deleted repository"
        return f"its head lies in {whose}, but the run was of {run.repository or 'a deleted repository'}"
    if run.branch != pull_request.branch:
        return f"its head is the branch {pull_request.branch!r}, but the run was of {run.branch!r}"
    return ""
