"""How the model servers of a plan fare, as the supervisor tells."""

from ci_tools.release.controller.machine import Server
from ci_tools.release.plan import Actual, Health, Member, Plan, Role

_BEST_FIRST = (Health.READY, Health.FAILED, Health.STARTING, Health.DRAINING)
"""Of several servers of one role, as a replacement starts before the old one ends: which one speaks for the role."""


class Servers:
    """Remembers for how long each role has been without a server that is ready."""

    def __init__(self) -> None:
        self._unready: dict[tuple[Role, str], float] = {}
        self._before: float | None = None
        self._heartbeat = 0.0

    def look(self, now: float, actual: Actual, plan: Plan | None) -> dict[Role, Server]:
        """Each role of the plan.

        Args:
            now: boot time.
            actual: as the supervisor wrote it last. While it is silent, no time passes for its servers.
            plan: that is to be in force.
        """
        told = actual.heartbeat != self._heartbeat
        passed = now - self._before if told and self._before is not None else 0.0
        if told or self._before is None:
            self._before, self._heartbeat = now, actual.heartbeat
        pools = plan.pools if plan else {}
        unready, found = {}, {}
        for role, bundle in pools.items():
            member = _speaker(actual, role, bundle)
            health = member.health if member else Health.STARTING
            known = self._unready.get((role, bundle))
            unready[role, bundle] = 0.0 if health is Health.READY or known is None else known + passed
            found[role] = Server(health, member.reason if member else "", member.restarts if member else 0,
                                 unready[role, bundle])  # fmt: skip
        self._unready = unready
        return found


def _speaker(actual: Actual, role: Role, bundle: str) -> Member | None:
    members = [one for one in actual.members if one.role is role and one.bundle == bundle]
    return min(members, key=lambda one: _BEST_FIRST.index(one.health), default=None)
