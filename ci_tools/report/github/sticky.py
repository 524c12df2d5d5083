"""Which comments are ours, and what to do so that exactly one of them stays. Pure decisions."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ci_tools.errors import SwitchbackError

LONGEST = 65_536
"""Characters that GitHub takes in a comment."""


class Comment(NamedTuple):
    """A comment as it was read."""

    id: int
    """Grows with time: the smaller one is the older one."""
    author: str
    """Login; that of an app ends in `[bot]`. Empty where the account is gone."""
    is_bot: bool
    body: str


class Plan(NamedTuple):
    """What is left to do. Nothing to keep: create a comment."""

    keep: int | None
    edit: bool
    remove: tuple[int, ...]


def marked(body: str, topic: str) -> str:
    """The body under a first line that no reader sees and by which it is found again.

    Raises:
        SwitchbackError: longer than GitHub takes.
    """
    text = f"{marker(topic)}\n{body}"
    if len(text) > LONGEST:
        raise SwitchbackError(
            f"the comment has {len(text):,} characters", rule=f"GitHub takes {LONGEST:,}", fix="shorten it"
        )
    return text


def marker(topic: str) -> str:
    """An HTML comment; each topic has a sticky comment of its own."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", topic):
        raise ValueError(
            f"topic {topic!r}: lower-case words with single dashes, so that it cannot end the HTML comment"
        )
    return f"<!-- switchback:{topic} -->"


def ours(comments: Iterable[Comment], topic: str, login: str | None) -> list[Comment]:
    """Those that this token's account wrote about the topic, the oldest first.

    Anybody can copy the marker, so the author counts as well. Where the login is not known, any bot's comment is taken:
    a person cannot be one. A marker anywhere but at the start is a quotation.
    """
    return sorted(
        comment
        for comment in comments
        if comment.body.lstrip().startswith(marker(topic))
        and (comment.is_bot if login is None else comment.author.lower() == login.lower())
    )


def plan(found: list[Comment], text: str, created: int | None) -> Plan:
    """The oldest stays and says `text`; all others go.

    `created` is the comment that this job made a moment ago. If it is the oldest and says something else by now, a job
    that came later wrote there: its word is the newer one and stands. Law: two jobs that create at once leave the older
    comment, with the text of the job that created the younger, whichever of them looks first afterwards.
    """
    if not found:  # not even the created one, where a server changes what it is given
        return Plan(created, edit=False, remove=())
    oldest, *younger = found
    edit = oldest.id != created and plain(oldest.body) != plain(text)
    return Plan(oldest.id, edit, tuple(comment.id for comment in younger))


def plain(body: str) -> str:
    """Without what a round trip through GitHub's forms may change."""
    return body.replace("\r\n", "\n").strip()
