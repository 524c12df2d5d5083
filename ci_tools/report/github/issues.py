"""Issues that Switchback opens: one per matter, whoever tells of it again."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from ci_tools.report.github.failures import Deed
from ci_tools.report.github.session import Patience, connect
from ci_tools.report.github.sticky import marked, marker, plain
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github.Issue import Issue

LABEL = "switchback"
"""By it the issues are found again; GitHub makes the label with the first of them."""


class Opened(NamedTuple):
    """Where the issue is, and what was done to it."""

    url: str
    action: Literal["opened", "updated", "unchanged"]


def open_issue(
    target: Target, topic: str, title: str, body: str, *, again: bool = False, patience: Patience | None = None
) -> Opened:
    """Have one issue on a topic, which says `body`.

    Args:
        target: of the repository.
        topic: lower-case words with single dashes; finds the issue again.
        title: of a new one.
        body: Markdown.
        again: whether one that was closed is left alone and another one opened, as for something that recurs; else a
            closed one stays the last word on its topic.
        patience: how long GitHub is waited for.

    Raises:
        SwitchbackError: the body is too long, or the token may not.
        DependencyUnavailable: GitHub was out of reach, or answered with errors, for as long as patience lasts.
    """
    deed = Deed(f"open an issue in {target.repository}", "issues: write")
    patience, text = patience or Patience(), marked(body, topic)
    with connect(target) as github:
        repository = github.get_repo(target.repository)

        def find() -> "Issue | None":
            known = repository.get_issues(state="open" if again else "all", labels=[LABEL], sort="created")
            # Anybody may copy the marker into an issue; only people with write access, and apps, set labels.
            return next((one for one in known if (one.body or "").lstrip().startswith(marker(topic))), None)

        def create() -> "Issue":
            return repository.create_issue(title, body=text, labels=[LABEL])

        found = patience.ask(find, deed)
        if found is None:
            return Opened(patience.create(create, find, deed).html_url, "opened")
        if found.state == "closed" or plain(found.body) == plain(text):
            return Opened(found.html_url, "unchanged")
        issue = found
        patience.ask(lambda: issue.edit(body=text), deed)
        return Opened(found.html_url, "updated")
