"""Requests to GitHub, and how long to be patient with it. The only place where waiting happens."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from ci_tools import __version__
from ci_tools.console import say
from ci_tools.errors import DependencyUnavailable
from ci_tools.report.github.failures import Answer, Deed, Refused, explain, gave_up, seconds_to_wait
from ci_tools.report.github.target import Target

if TYPE_CHECKING:
    from github import Github

T = TypeVar("T")
TIMEOUT_S = 15
"""Seconds without a byte after which a request counts as broken."""
_NOT_ITS_API = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What PyGithub raises where it is redirected to another host, or answered with HTML or JSON of another shape."""


class Clock(Protocol):
    """The parts of the module `time` that waiting needs."""

    def time(self) -> float:
        """Seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    def sleep(self, seconds: float, /) -> None:
        """Come back later."""


class Patience:
    """How long one command waits for GitHub: `total_s` seconds over all its requests, `attempts` for each.

    Law: no wait starts that would end after `total_s`; requests themselves take at most TIMEOUT_S longer when silent.
    """

    def __init__(self, total_s: float = 300.0, attempts: int = 6, clock: Clock = time) -> None:
        self._attempts, self._clock = attempts, clock
        self._deadline = clock.monotonic() + total_s

    def pause(self, refused: Refused, deed: Deed, attempt: int) -> None:
        """Wait until attempt `attempt` + 1 makes sense.

        Raises:
            SwitchbackError: waiting does not help.
            DependencyUnavailable: it might, but there were enough attempts or there is too little time.
        """
        answer = refused.answer
        wait = seconds_to_wait(answer, attempt, self._clock.time())
        if wait is None:
            raise explain(answer, deed) from None
        left = self._deadline - self._clock.monotonic()
        if attempt >= self._attempts or wait > left:
            raise gave_up(answer, deed, attempt, wait, left) from None
        say(f"GitHub: {answer}; trying again in {wait:.0f} s")
        self._clock.sleep(wait)

    def ask(self, request: Callable[[], T], deed: Deed) -> T:
        """The result of a request that may be repeated without harm.

        Raises:
            SwitchbackError: as `pause`.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return answered(request)
            except Refused as refused:
                self.pause(refused, deed, attempt)

    def create(self, request: Callable[[], T], find: Callable[[], T | None], deed: Deed) -> T:
        """The result of a request that makes something new: before it is repeated, `find` looks whether it arrived.

        Raises:
            SwitchbackError: as `pause`.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return answered(request)
            except Refused as refused:
                self.pause(refused, deed, attempt)
            if (arrived := self.ask(find, deed)) is not None:
                return arrived


@contextmanager
def connect(target: Target) -> Iterator["Github"]:
    """A client of the target's server; objects it returns send a request only when a value of theirs is read.

    PyGithub's own retries are off: they repeat what creates, and know no limit of time.

    Raises:
        DependencyUnavailable: PyGithub is not installed.
    """
    try:
        from github import Auth, Github
    except ModuleNotFoundError:
        raise DependencyUnavailable("PyGithub is not installed", fix="pip install 'switchback-ci[report]'") from None
    client = Github(
        auth=Auth.Token(target.token),
        base_url=target.api_url,
        timeout=TIMEOUT_S,
        user_agent=f"switchback/{__version__}",
        per_page=100,
        retry=None,
        seconds_between_requests=None,
        seconds_between_writes=None,
        lazy=True,
    )
    try:
        yield client
    finally:
        client.close()


def answered(request: Callable[[], T]) -> T:
    """The request's result.

    Raises:
        Refused: GitHub answered with an error, with something that is not its API, or not at all.
    """
    from github import BadAttributeException, GithubException

    try:
        return request()
    except GithubException as error:
        raise Refused(Answer(error.status, _message(error.data) or error.message or "", error.headers or {})) from error
    except OSError as error:  # all that requests raises, timeouts and resets among it
        raise Refused(Answer(None, f"{type(error).__name__}: {error}")) from error
    except (*_NOT_ITS_API, BadAttributeException) as error:
        raise Refused(Answer(200, f"something that is not its API ({type(error).__name__}: {error})")) from error


def _message(data: object) -> str:
    """GitHub's own words: {"message": …, "errors": [{"message": …} or text, …]}."""
    if not isinstance(data, dict):
        return str(data or "")
    errors = data.get("errors")
    details = [e.get("message", e.get("code", "")) if isinstance(e, dict) else e for e in errors or []]
    return "; ".join(str(part) for part in (data.get("message", ""), *details) if part)
