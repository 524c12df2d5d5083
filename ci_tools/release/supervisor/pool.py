"""Which server has which role, out of those that run. Promotion re-assigns roles and restarts nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ci_tools.release.plan import Health, Role
from ci_tools.release.supervisor.server import Server


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What becomes of the servers."""

    roles: Mapping[str, Role]
    """By member name, of every server that stays."""
    missing: tuple[Role, ...]
    """Roles for which a server must be started, stable first."""
    leftover: tuple[str, ...]
    """Names of the servers that nobody needs any more."""


def assign(pools: Mapping[Role, str], servers: Sequence[Server]) -> Assignment:
    """Give every role of the plan a server with its bundle.

    Baseline and canary keep their own server and adopt none: they are compared because both began afresh. Stable and
    previous adopt any with their bundle, ready ones first. Servers of stable that are ready stay while its new one is
    not.
    """
    free = {server.name: server for server in servers if server.health is not Health.DRAINING}
    roles: dict[str, Role] = {}
    missing = []
    for role in (Role.BASELINE, Role.CANARY, Role.STABLE, Role.PREVIOUS):
        if role not in pools:
            continue
        fit = [s for s in free.values() if s.bundle == pools[role] and (s.role is role or _adopts(role, s))]
        if fit:
            chosen = min(
                fit, key=lambda s: (s.health is not Health.READY, s.role is not role, s.role is not Role.STABLE)
            )
            roles[chosen.name] = role
            del free[chosen.name]
        else:
            missing.append(role)
    if Role.STABLE in pools and not _serves(pools[Role.STABLE], roles, servers):
        waiting = [s for s in free.values() if s.role is Role.STABLE and s.health is Health.READY]
        roles |= {s.name: Role.STABLE for s in waiting}
    leftover = tuple(name for name in free if name not in roles)
    return Assignment(roles=roles, missing=tuple(sorted(missing, key=list(Role).index)), leftover=leftover)


def _adopts(role: Role, server: Server) -> bool:
    return role in (Role.STABLE, Role.PREVIOUS) and server.health is not Health.FAILED


def _serves(bundle: str, roles: Mapping[str, Role], servers: Sequence[Server]) -> bool:
    """Whether stable's new server is ready."""
    return any(s.health is Health.READY and s.bundle == bundle and roles.get(s.name) is Role.STABLE for s in servers)
