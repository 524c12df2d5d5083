"""What a drill sees of a release service: what it says, what its files say, and waiting for either."""

import time
from collections.abc import Callable, Iterator

from ci_tools.errors import SwitchbackError
from ci_tools.release.client.connection import Address, Connection
from ci_tools.release.control import Event, Phase, Release, Status
from ci_tools.release.home import Home
from ci_tools.release.ledger import Ledger
from ci_tools.release.plan import Actual, Health, Member, Role
from ci_tools.release.traffic.access import AccessLog, Entry

ACTOR = "drill"
_SECONDS = 90.0
"""For anything to happen."""


class Unmet(Exception):
    """What a drill waits for did not come."""


class Observed:
    """A service, seen from outside."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.connection = Connection(Address(home))
        self.log = AccessLog(home.access_log)

    def forget(self) -> None:
        """Ask nothing more."""
        self.connection.__exit__(None, None, None)

    @property
    def actual(self) -> Actual:
        """What the supervisor wrote last."""
        try:
            return Actual.model_validate_json(self.home.actual.read_bytes())
        except (OSError, ValueError):
            return Actual()

    def member(self, role: Role) -> Member | None:
        """The server of a role that is not on its way out."""
        fit = [one for one in self.actual.members if one.role is role and one.health is not Health.DRAINING]
        return fit[0] if fit else None

    def status(self) -> Status | None:
        """None where the controller does not answer."""
        try:
            return self.connection.status()
        except SwitchbackError:
            return None

    def until(self, condition: Callable[[Status], bool], what: str, seconds: float = _SECONDS) -> Status:
        """Wait for a status; that status."""
        found: list[Status] = []

        def met() -> bool:
            status = self.status()
            if status is not None and condition(status):
                found.append(status)
            return bool(found)

        self.hold(met, what, seconds, pause=0.05)
        return found[0]

    def hold(self, condition: Callable[[], bool], what: str, seconds: float = _SECONDS, pause: float = 0.005) -> None:
        """Wait for a condition.

        Raises:
            Unmet: it was not met in time.
        """
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                raise Unmet(f"not within {seconds:g} s: {what}; {self._shown()}")
            time.sleep(pause)

    def _shown(self) -> str:
        status = self.status()
        if status is None:
            return "the controller does not answer"
        release = status.release
        held = f"{release.id} {release.phase} {release.result or ''} {release.reason}" if release else "no release"
        members = ", ".join(f"{one.role}={one.health} {one.reason}" for one in status.actual.members)
        return f"{held}; {members}; {'; '.join(status.warnings)}"

    def submit(self, digest: str) -> Release:
        """Begin a release, whatever became of the bundle's last one."""
        return self.connection.submit(digest, ACTOR, again=True)

    def follow(self, id_: str, seconds: float = _SECONDS) -> Release:
        """A release at its end, or promoted and watched."""
        status = self.until(lambda one: over(one, id_), f"release {id_} ends", seconds)
        return status.release

    def release(self, digest: str, seconds: float = _SECONDS) -> Release:
        """One release from its beginning to its end."""
        return self.follow(self.submit(digest).id, seconds)

    def in_force(self, role: Role = Role.CANARY) -> bool:
        """Whether a ramp's weights are, and its server answers."""
        member = self.member(role)
        return self.actual.leased and bool(member and member.health is Health.READY)

    def events(self, after: int = 0) -> list[Event]:
        """From the file, so that nobody need answer."""
        if not self.home.ledger.exists():
            return []
        with Ledger(self.home.ledger, readonly=True) as ledger:
            return list(ledger.events(after, 100_000))

    def verified(self) -> int:
        """Events of the ledger, each of which fits.

        Raises:
            SwitchbackError: one does not.
        """
        with Ledger(self.home.ledger, readonly=True) as ledger:
            return ledger.verify()

    def canary_answers(self) -> list[Entry]:
        """Of the canary, those that are new in the access log; call it often enough, logs are rotated."""
        return [entry for entry in iter_all(self.log) if entry.arm is Role.CANARY]

    def answers_until(self, t: float) -> list[Entry]:
        """Of the canary, those that are new, once the log tells of requests that came after `t`, of whatever pool."""
        found: list[Entry] = []

        def reached() -> bool:
            found.extend(iter_all(self.log))
            return bool(found) and max(entry.t for entry in found) > t

        self.hold(reached, "the access log goes on", pause=0.05)
        return [entry for entry in found if entry.arm is Role.CANARY]


def over(status: Status, id_: str) -> bool:
    """Whether a release has ended, or the next has begun."""
    release = status.release
    if release is None:
        return False
    return release.id != id_ or release.result is not None or release.phase in (Phase.IDLE, Phase.WATCHING)


def iter_all(log: AccessLog) -> Iterator[Entry]:
    """Everything that is new."""
    while found := log.read():
        yield from found
