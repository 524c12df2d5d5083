"""What to do when GitHub does not do as asked: wait and for how long, or give up and say why. Pure decisions.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and .../troubleshooting-the-rest-api
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from ci_tools.errors import DependencyUnavailable, SwitchbackError

SECONDARY_S = 60.0
"""The shortest wait after a secondary rate limit that names none, as GitHub documents it."""
_LONGEST_MESSAGE = 200


class Answer(NamedTuple):
    """What came back instead of success."""

    status: int | None
    """HTTP status; None where the connection broke, so that nobody knows whether the request arrived."""
    message: str
    headers: Mapping[str, str] = {}
    """Names in lower case."""

    def __str__(self) -> str:
        """One line without control characters: the text may be a proxy's."""
        text = " ".join("".join(c if c.isprintable() else " " for c in self.message).split())[:_LONGEST_MESSAGE]
        return " ".join(part for part in (str(self.status or ""), text) if part) or "no answer"


class Deed(NamedTuple):
    """What is being asked of GitHub, for errors."""

    what: str
    """Reads after "cannot"."""
    permission: str
    """What the token needs for it, as a workflow's `permissions:` names it."""


class Refused(Exception):
    """GitHub did not do as asked, or was not reached. Becomes a SwitchbackError, or is waited out."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


def seconds_to_wait(answer: Answer, attempt: int, now: float) -> float | None:
    """How long to wait before the next attempt; None where waiting does not help.

    `attempt` counts from 1, `now` is in seconds since 1970. Broken connections and 5xx back off from one second,
    doubling. For a rate limit the server's own word counts: Retry-After, else the reset of an exhausted limit, else a
    minute, doubling.
    """
    if is_rate_limit(answer):
        asked = _retry_after(answer.headers.get("retry-after", ""), now)
        if asked is None and answer.headers.get("x-ratelimit-remaining") == "0":
            # One more: the reset falls somewhere within its second.
            asked = _number(answer.headers.get("x-ratelimit-reset", ""), minus=now - 1)
        return SECONDARY_S * 2.0 ** (attempt - 1) if asked is None else max(asked, 1.0)
    if answer.status is None or answer.status >= 500:
        asked = _retry_after(answer.headers.get("retry-after", ""), now)
        return max(asked or 0.0, 2.0 ** (attempt - 1))
    return None


def explain(answer: Answer, deed: Deed) -> SwitchbackError:
    """The error for an answer that no waiting changes."""
    what = f"cannot {deed.what}: GitHub answered {answer}"
    if answer.status == 401:
        return SwitchbackError(what, rule="the token is wrong or has expired", fix="set GITHUB_TOKEN to a valid token")
    if "is locked" in answer.message:
        return SwitchbackError(
            what,
            rule="a locked conversation takes comments from people with write access only",
            fix="unlock it, or read the report in the job's summary",
        )
    if answer.status == 403:
        return SwitchbackError(
            what,
            rule=f"the token lacks `{deed.permission}`",
            fix=f"give the job `permissions: {deed.permission}`; a run that a fork's pull request started can have no "
            "such token, so publish from a workflow_run job",
        )
    if answer.status in (404, 410):
        return SwitchbackError(
            what,
            rule=f"it does not exist, or the token must not see it (`{deed.permission}`)",
            fix="check GITHUB_REPOSITORY, GITHUB_API_URL, the number and the token's permissions",
        )
    if answer.status == 422:
        return SwitchbackError(what, rule="GitHub does not take these values", fix="correct what it names")
    return DependencyUnavailable(what, fix="check GITHUB_API_URL, and https://www.githubstatus.com")


def gave_up(answer: Answer, deed: Deed, attempts: int, wait_s: float, left_s: float) -> DependencyUnavailable:
    """The error for an answer that would have to be waited out for longer than there is time, or too often."""
    rule = f"attempt {attempts} was the last"
    if wait_s > left_s:
        rule = f"it would have to be asked again after {wait_s:.0f} s, and {max(left_s, 0):.0f} s are left for that"
    return DependencyUnavailable(
        f"cannot {deed.what}: the last answer was {answer}", rule=rule, fix="run the same command again later"
    )


def is_rate_limit(answer: Answer) -> bool:
    """Whether to come back later: GitHub says so with 429, or with a 403 that its text or headers tell from others."""
    if answer.status == 429:
        return True
    said = answer.message.lower()
    hints = ("rate limit", "abuse detection")
    exhausted = answer.headers.get("x-ratelimit-remaining") == "0"
    return answer.status == 403 and (
        exhausted or "retry-after" in answer.headers or any(hint in said for hint in hints)
    )


def _retry_after(text: str, now: float) -> float | None:
    """Seconds from either form that HTTP allows: a number, or a date (RFC 9110, 10.2.3)."""
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now


def _number(text: str, minus: float = 0.0) -> float | None:
    # A limit of digits: `isdigit` alone would let a number through that no float holds.
    return float(text) - minus if text.isascii() and text.isdigit() and len(text) <= 12 else None
