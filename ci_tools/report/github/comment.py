"""The one comment that Switchback keeps on a pull request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from ci_tools.console import say
from ci_tools.report.github.failures import Deed, Refused, is_rate_limit
from ci_tools.report.github.session import Patience, answered, connect
from ci_tools.report.github.sticky import Comment, marked, ours, plan
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github import Github
    from github.IssueComment import IssueComment

WHO = "query { viewer { login } }"
"""GraphQL, because `GET /user` refuses the tokens that GitHub Actions gives to jobs."""


class Published(NamedTuple):
    """Where the comment is, and what was done to it."""

    url: str
    action: Literal["created", "updated", "unchanged"]
    removed: int
    """Comments of ours that were too many."""


def publish_comment(body: str, target: Target, *, topic: str = "report", patience: Patience | None = None) -> Published:
    """Make `body` (Markdown) the one comment of this account on this topic; closed pull requests are commented, too.

    Where GitHub's lists lag so far behind that two comments stay, the next report removes the younger one.

    Raises:
        ConfigError: the target names no pull request.
        SwitchbackError: the body is too long, the token may not comment, the conversation is locked.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    patience = patience or Patience()
    deed = Deed(f"comment on pull request #{target.number} of {target.repository}", "pull-requests: write")
    text = marked(body, topic)
    with connect(target) as github:
        conversation = _Conversation(github, target, topic, patience, deed)
        # Each step looks before it writes, so a step that failed is repeated safely: what arrived after all is found.
        while (published := patience.ask(lambda: conversation.advance(text), deed)) is None:
            continue
    return published


class _Conversation:
    """A pull request's comments, and what this job did to them so far."""

    def __init__(self, github: "Github", target: Target, topic: str, patience: Patience, deed: Deed) -> None:
        # To GitHub a pull request is an issue, too, and its conversation belongs to the issue.
        self._issue = github.get_repo(target.repository).get_issue(target.number)
        self._topic, self._patience, self._deed = topic, patience, deed
        self._login = patience.ask(lambda: _login(github), deed)
        self._created: IssueComment | None = None
        self._gone: set[int] = set()
        self._action: Literal["created", "updated", "unchanged"] = "unchanged"
        self._removed = 0

    def advance(self, text: str) -> Published | None:
        """Look, then do what is next; None while another look is needed: after creating, another job may have, too."""
        there = self._look()
        found = ours(map(_seen, there.values()), self._topic, self._login)
        step = plan(found, text, self._created.id if self._created and self._created.id in there else None)
        if step.keep is None:
            self._action = "created"
            created = self._issue.create_comment(text)
            # Now the account is known for certain, and so is any older comment of it.
            self._created, self._login = created, created.user.login
            return None
        keep = there[step.keep]
        if step.edit:
            if not _unless_gone(lambda: keep.edit(text)):
                self._gone.add(keep.id)
                return None
            self._action = "updated"
        for number in step.remove:
            self._removed += _unless_gone(there[number].delete)
            self._gone.add(number)
        return Published(keep.html_url, self._action, self._removed)

    def _look(self) -> dict[int, "IssueComment"]:
        pages = self._issue.get_comments()
        # Iterated again after a failure, the list goes on with the page that failed.
        there = {comment.id: comment for comment in self._patience.ask(lambda: list(pages), self._deed)}
        if self._created:  # lists may lag behind what was just written
            there.setdefault(self._created.id, self._created)
        return {number: comment for number, comment in there.items() if number not in self._gone}


def _login(github: "Github") -> str | None:
    """The account that the token belongs to; None where the server does not tell."""
    try:
        _, answer = answered(lambda: github.requester.graphql_query(WHO, {}))
    except Refused as refused:
        if refused.answer.status in (400, 403, 404) and not is_rate_limit(refused.answer):
            say("GitHub does not tell whose token this is: comments by bots count as ours")
            return None
        raise
    return str(answer["data"]["viewer"]["login"])


def _seen(comment: "IssueComment") -> Comment:
    user = comment.user  # None where the account was deleted
    return Comment(comment.id, user.login if user else "", bool(user) and user.type == "Bot", comment.body or "")


def _unless_gone(request: Callable[[], object]) -> bool:
    """Whether it was done; False where the comment is not there any more."""
    try:
        answered(request)
    except Refused as refused:
        if refused.answer.status not in (404, 410):
            raise
        return False
    return True
