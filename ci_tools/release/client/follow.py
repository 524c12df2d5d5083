"""One release from its beginning to its verdict, whatever dies meanwhile.

The release lives in the service. Who follows it may end and follow again; a service that restarts is waited for.
"""

import time
from collections.abc import Callable, Iterator

from ci_tools.console import Progress
from ci_tools.errors import ConfigError, DependencyUnavailable
from ci_tools.harmless import one_line
from ci_tools.release.api import words
from ci_tools.release.client.connection import Connection
from ci_tools.release.client.pace import foretold
from ci_tools.release.control import Phase, Release, Result, Status
from ci_tools.release.plan import Health, Role

EVERY = 0.5
"""Seconds between two looks."""
START = 180.0
"""Seconds that the server of the first bundle has to answer: more than a supervisor gives it before it says why not."""
TELL_EVERY = 10.0
"""Seconds after which something is said even where nothing changed."""
_RESULTS = {"installed": Result.PROMOTED, "watching": Result.PROMOTED}
"""By kind of event, where it is not in the body."""
_SLOWEST = 5.0
"""Seconds between two attempts to reach a service that does not answer."""


def submit(
    connection: Connection,
    bundle: str,
    actor: str,
    patience: float,
    tell: Callable[[str], object],
    again: bool = False,
) -> Release:
    """Begin a canary once, however often the connection breaks.

    A broken connection does not say whether the request arrived. Before it is sent again, the service is asked: a
    second canary of a bundle that was just rolled back would be another release.

    Raises:
        DependencyUnavailable: no answer for `patience` seconds.
        ConfigError: the service refuses.
    """
    before: str | None = None
    waiting = _Waiting(patience, tell)
    while True:
        try:
            status = connection.status()
            known = status.release.id if status.release else ""
            if before is not None and status.release and known != before and status.release.bundle == bundle:
                return status.release
            before = known
            return connection.submit(bundle, actor, again)
        except DependencyUnavailable as error:
            waiting.after(error)


def states(
    connection: Connection, patience: float, tell: Callable[[str], object], every: float = EVERY
) -> Iterator[Status]:
    """What is going on, again and again.

    Raises:
        DependencyUnavailable: no answer for `patience` seconds.
    """
    waiting = _Waiting(patience, tell)
    while True:
        try:
            status = connection.status()
        except DependencyUnavailable as error:
            waiting.after(error)
            continue
        waiting.over()
        yield status
        time.sleep(every)


def follow(
    connection: Connection,
    release: Release,
    *,
    patience: float,
    tell: Callable[[str], object],
    bar: Progress | None = None,
    every: float = EVERY,
) -> Status:
    """Tell what happens to a release until its verdict, and of the first bundle until it answers; the status then.

    Raises:
        DependencyUnavailable: the service gave no answer for `patience` seconds, or the first bundle's server none.
        ConfigError: the service knows the release no more.
    """
    teller, looks = Teller(tell, bar), states(connection, patience, tell, every)
    while True:
        status = next(looks)
        if status.release is None or status.release.id != release.id:
            status = _afterwards(connection, status, release)
        teller.take(status)
        now = status.release
        if now is None or now.result is not None or now.phase is Phase.WATCHING:
            return answering(looks, status, now)


class Teller:
    """Says what changed, a line per change of phase or weight, and something every few seconds."""

    def __init__(self, tell: Callable[[str], object], bar: Progress | None = None) -> None:
        self._tell, self._bar = tell, bar
        self._phase: tuple[Phase, Result | None, str] | None = None
        self._weight, self._said = -1.0, 0.0

    def take(self, status: Status) -> None:
        """A further look at the release in `status`."""
        release = status.release
        if release is None:
            return
        phase = release.phase, release.result, release.reason
        if phase != self._phase:
            found = words.about(release)
            self._line(f"{found.title}: {found.sentence}", release)
        elif release.canary_weight != self._weight:
            self._line(f"The canary answers {words.percent(release.canary_weight)} of the traffic.", release)
        elif time.monotonic() - self._said >= TELL_EVERY:
            self._line(_interim(status), release)
        self._phase, self._weight = phase, release.canary_weight
        if self._bar:
            self._bar.update(round(100 * proven(status)), f"{words.TITLES[release.phase].lower()}, canary "
                             f"{words.percent(release.canary_weight)}")  # fmt: skip

    def _line(self, text: str, release: Release) -> None:
        self._said = time.monotonic()
        self._tell(one_line(f"[{words.duration(release.seconds)}] {text}", 600))


def proven(status: Status) -> float:
    """How much of the evidence that promotion needs is there, from 0 to 1: that of the metric which lacks most."""
    verdicts = [one for one in status.decision.verdicts if one.needed] if status.decision else []
    parts = [one.log10_safe / one.log10_safe_needed for one in verdicts if one.log10_safe_needed > 0]
    return min(max(min(parts, default=0.0), 0.0), 1.0)


def _interim(status: Status) -> str:
    if status.decision is None:
        return "nothing to judge by yet"
    found = f"{100 * proven(status):.0f} % of the evidence that promotion needs."
    return f"{status.decision.sentence} {found} {foretold(status)}".rstrip()


def _afterwards(connection: Connection, status: Status, release: Release) -> Status:
    """The status in which a release ended that another one has followed since, as the ledger tells it."""
    for event in reversed(connection.events()):
        result = _RESULTS.get(event.kind, event.body.get("result"))
        if event.release == release.id and result in set(Result):
            change = {"phase": Phase.IDLE, "result": Result(result), "reason": str(event.body.get("reason", "")),
                      "seconds": float(event.body.get("seconds", 0.0)), "canary_weight": 0.0}  # fmt: skip
            return status.model_copy(update={"release": release.model_copy(update=change), "decision": None})
    raise ConfigError(f"the service knows release {one_line(release.id, 60)} no more", where="release service",
                      fix="look at `switchback status`, then release the bundle again")  # fmt: skip


def answering(looks: Iterator[Status], status: Status, release: Release | None) -> Status:
    """The first status in which the first bundle of all has a server, or is champion no more.

    Any other champion had one before its verdict.

    Args:
        looks: what is going on, again and again.
        status: the last look.
        release: that ended; none: there is nothing to wait for.

    Raises:
        DependencyUnavailable: its server failed, or is not ready after `START` seconds.
    """
    if release is None or release.champion:
        return status
    until = time.monotonic() + START
    while status.champion == release.bundle and not status.actual.ready(Role.STABLE, release.bundle):
        ended = [m.reason for m in status.actual.members if m.bundle == release.bundle and m.health is Health.FAILED]
        if ended or time.monotonic() > until:
            what = f"its server failed: {ended[0]}" if ended else f"its server is not ready after {START:.0f} s"
            raise DependencyUnavailable(f"is the champion and answers nobody: {one_line(what, 300)}",
                                        where=f"bundle {release.bundle[:12]}",
                                        fix="look at the service's log, then release a bundle that starts")  # fmt: skip
        status = next(looks)
    return status


class _Waiting:
    """For a service that does not answer: longer each time, up to an end."""

    def __init__(self, patience: float, tell: Callable[[str], object]) -> None:
        self._patience, self._tell = patience, tell
        self._since: float | None = None
        self._pause = 0.1

    def after(self, error: DependencyUnavailable) -> None:
        """Wait a little, or give up with the error."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._tell(f"{error.what}; waiting up to {self._patience:.0f} s for it")
        if now - self._since >= self._patience:
            raise error
        time.sleep(min(self._pause, max(self._since + self._patience - now, 0.01)))
        self._pause = min(2 * self._pause, _SLOWEST)

    def over(self) -> None:
        """It answers."""
        if self._since is not None:
            self._tell("the release service answers again")
        self._since, self._pause = None, 0.1
