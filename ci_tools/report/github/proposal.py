"""A pull request of our own: files on a branch that belongs to Switchback, proposed for review."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from ci_tools.report.github.failures import Deed
from ci_tools.report.github.session import Patience, connect
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github import Github


class Proposed(NamedTuple):
    """Where the pull request is, and whether it was there already."""

    url: str
    action: Literal["opened", "updated"]


class Change(NamedTuple):
    """What is proposed."""

    parent: str
    """Commit that the files were made from."""
    tree: str
    """Its tree, by git's digest."""
    files: Mapping[str, str]
    """Path to text."""
    message: str
    """First line: title of commit and pull request. The rest: what the pull request says."""


def propose(target: Target, change: Change, *, branch: str, base: str, patience: Patience | None = None) -> Proposed:
    """Put a commit with the files on `branch`, whatever was there, and have one pull request of it open.

    Raises:
        SwitchbackError: the token may not, or the repository's settings forbid it.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"propose a change of {target.repository}", "contents: write, pull-requests: write")
    with connect(target) as github:
        work = _Proposal(github, target, patience or Patience(), deed)
        commit = work.commit(change)
        work.move(branch, commit)
        return work.pull_request(change.message, branch, base)


class _Proposal:
    """The requests, each of which may be repeated."""

    def __init__(self, github: "Github", target: Target, patience: Patience, deed: Deed) -> None:
        self._github, self._path = github, f"/repos/{target.repository}"
        self._owner = target.repository.partition("/")[0]
        self._patience, self._deed = patience, deed

    def commit(self, change: Change) -> str:
        """A commit that nothing refers to yet."""
        entries = [
            {"path": path, "mode": "100644", "type": "blob", "content": text} for path, text in change.files.items()
        ]
        tree = self._ask("POST", "/git/trees", {"base_tree": change.tree, "tree": entries})["sha"]
        values = {"message": change.message, "tree": tree, "parents": [change.parent]}
        return str(self._ask("POST", "/git/commits", values)["sha"])

    def move(self, branch: str, commit: str) -> None:
        """The branch ends with the commit."""
        ref, name = f"refs/heads/{branch}", quote(f"heads/{branch}", safe="")

        def there() -> bool | None:
            found = self._send("GET", f"/git/matching-refs/{name}")
            return True if any(one["ref"] == ref for one in found) else None

        def create() -> bool:
            self._send("POST", "/git/refs", {"ref": ref, "sha": commit})
            return True

        if self._patience.ask(there, self._deed):
            self._ask("PATCH", f"/git/refs/{name}", {"sha": commit, "force": True})
        else:
            self._patience.create(create, there, self._deed)

    def pull_request(self, message: str, branch: str, base: str) -> Proposed:
        """The open one of the branch; its text stays, because people may have added to it."""
        title, _, body = message.partition("\n")
        query = "/pulls?" + urlencode({"state": "open", "base": base, "head": f"{self._owner}:{branch}"})

        def find() -> str | None:
            return next((str(one["html_url"]) for one in self._send("GET", query)), None)

        def create() -> str:
            values = {"title": title, "body": body.strip(), "head": branch, "base": base}
            return str(self._send("POST", "/pulls", values)["html_url"])

        if url := self._patience.ask(find, self._deed):
            return Proposed(url, "updated")
        return Proposed(self._patience.create(create, find, self._deed), "opened")

    def _ask(self, method: str, path: str, values: Mapping[str, Any]) -> Any:
        return self._patience.ask(lambda: self._send(method, path, values), self._deed)

    def _send(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> Any:
        return self._github.requester.requestJsonAndCheck(method, f"{self._path}{path}", input=values)[1]
