"""Pull requests as facts: which one brought a commit into its branch, and what the head of one is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ci_tools.errors import DataError
from ci_tools.report.github.failures import Deed
from ci_tools.report.github.session import Patience, connect
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github.Commit import Commit
    from github.PullRequest import PullRequest

MOST = 100
"""Commits of one push that are asked for their pull request; a merge group has no more."""


def merged_as(target: Target, sha: str, *, patience: Patience | None = None) -> int | None:
    """Number of the pull request that was merged as this commit; None for a commit that was pushed.

    Raises:
        SwitchbackError: there is no such commit, or the token must not see it.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"find the pull request of commit {sha[:12]} of {target.repository}", "pull-requests: read")
    with connect(target) as github:
        from github.Commit import Commit

        # Asked for by `get_commit`, it would be read first.
        known = {"sha": sha, "url": f"{target.api_url}/repos/{target.repository}/commits/{sha}"}
        commit = github.create_from_raw_data(Commit, known)
        found = (patience or Patience()).ask(lambda: list(commit.get_pulls()), deed)
    merged = [pull for pull in found if _merged(pull)]
    exact = [pull for pull in merged if pull.merge_commit_sha == sha]
    return next((pull.number for pull in exact or merged), None)


def merged_since(target: Target, before: str, sha: str, *, patience: Patience | None = None) -> tuple[int, ...]:
    """Numbers of the pull requests that one push merged, the last first: of the commits behind `before` up to `sha`.

    A merge group arrives so. Of a merge commit, what it merged is left out: its own pull request speaks for that.

    Raises:
        SwitchbackError: there is no such commit, or the token must not see it.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    patience = patience or Patience()
    deed = Deed(f"list the commits behind {before[:12]} of {target.repository}", "contents: read")
    with connect(target) as github:
        compared = github.get_repo(target.repository).compare(before, sha)
        pushed = patience.ask(lambda: tuple(_first_parents(list(compared.commits), sha)), deed)
    found = (merged_as(target, commit, patience=patience) for commit in pushed[:MOST])
    return tuple(dict.fromkeys(number for number in found if number is not None))


def refuse_unless_head(target: Target, sha: str, *, patience: Patience | None = None) -> None:
    """Refuse a commit that is not the head of the target's pull request, which must be open.

    Raises:
        DataError: it is not; somebody pushed after the commit was read, or mistyped it.
        SwitchbackError: there is no such pull request, or the token must not see it.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"read pull request #{target.number} of {target.repository}", "pull-requests: read")
    with connect(target) as github:
        pull = github.get_repo(target.repository).get_pull(target.number)
        state, head = (patience or Patience()).ask(lambda: (pull.state, pull.head.sha), deed)
    where, rule = f"pull request #{target.number}", "only the commit that was read may be run"
    if state != "open":
        raise DataError(f"it is {state}", where=where, rule="only an open one is run", fix="open it again")
    if head != sha:
        raise DataError(f"its head is {head}, not {sha[:64]}", where=where, rule=rule, fix="read the new commit first")


def _first_parents(commits: list["Commit"], sha: str) -> Iterator[str]:
    """The commits from `sha` back along first parents, as far as they are listed."""
    listed = {commit.sha: commit for commit in commits}
    while found := listed.pop(sha, None):
        yield sha
        sha = found.parents[0].sha if found.parents else ""


def _merged(pull: "PullRequest") -> bool:
    return pull.merged_at is not None
