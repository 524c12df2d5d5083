"""From a plan and the servers that there are: which server stands behind which pool, and with what weight.

The rule of every line here: a request always has a server to go to that was proven, and evidence is only ever gathered
about the bundle that the plan names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from ci_tools.release.plan import Plan, Role
from ci_tools.release.traffic.access import SAFE

PARTS = 1_000_003
"""Into which traffic is divided. Envoy draws one number per request and takes its remainder twice: by the sum of the
weights for the pool, by a million for mirroring. With equal divisors, or ones that share a factor, the mirrored
requests would be those of certain pools; a prime keeps the two independent.
"""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A model server, as far as traffic is concerned."""

    role: Role
    bundle: str
    port: int
    ready: bool
    """Whether it answers now."""
    proven: bool
    """Whether it has answered before, and was not given up since."""


@dataclass(frozen=True, kw_only=True)
class Routing:
    """All that Envoy's files say."""

    serial: int
    leased: bool
    """Whether the plan's weights are in force."""
    stable: tuple[int, ...]
    """Ports, at most two: the server of the pool, then the one that is tried when the first cannot be reached."""
    baseline: tuple[int, ...] = ()
    canary: tuple[int, ...] = ()
    baseline_parts: int = 0
    """Of `PARTS` that the baseline gets."""
    canary_parts: int = 0
    mirror_share: float = 0.0

    def safe(self) -> Self:
        """The same servers, all traffic on stable."""
        return replace(self, leased=False, baseline_parts=0, canary_parts=0, mirror_share=0.0)

    @property
    def name(self) -> str:
        """Of the route, as requests carry it into the access log."""
        return f"{self.serial}" if self.leased else f"{self.serial}{SAFE}"

    def ports_of(self, pool: str) -> tuple[int, ...]:
        """Of a pool's servers, in the order in which they are tried."""
        return {Role.STABLE: self.stable, Role.BASELINE: self.baseline, Role.CANARY: self.canary}[Role(pool)]

    @property
    def ports(self) -> set[int]:
        """Of all servers that a request may reach."""
        return {*self.stable, *self.baseline, *self.canary}


NOTHING = Routing(serial=0, leased=False, stable=())
"""Nobody is served."""


def route(plan: Plan | None, backends: Sequence[Backend], *, leased: bool) -> Routing:
    """What should be in force.

    The weights are, if they are leased and every pool that they name has a server of the plan's bundle which was
    proven. A pool keeps its weight when its server ends or hangs: that is the evidence that the judge needs, and the
    clients' requests go on to stable.
    """
    if plan is None:
        return NOTHING
    chain = _stable(plan, backends)[:2]
    baseline, canary = (_own(plan, backends, role) for role in (Role.BASELINE, Role.CANARY))
    canary_parts = round(plan.canary_weight * PARTS)
    routing = Routing(
        serial=plan.serial,
        leased=True,
        stable=chain,
        baseline=(*baseline, *chain[:1])[:2] if baseline else (),
        canary=(*canary, *chain[:1])[:2] if canary else (),
        baseline_parts=min(round(plan.baseline_weight * PARTS), PARTS - canary_parts),
        canary_parts=canary_parts,
        mirror_share=plan.mirror_share,
    )
    lacking = (routing.baseline_parts and not baseline) or (
        (routing.canary_parts or routing.mirror_share) and not canary
    )
    return routing if leased and chain and not lacking else routing.safe()


def _own(plan: Plan, backends: Sequence[Backend], role: Role) -> tuple[int, ...]:
    """Port of the pool's own server: never one with another bundle, whatever happens."""
    bundle = plan.pools.get(role)
    return tuple(b.port for b in backends if b.role is role and b.bundle == bundle and b.proven)[:1]


def _stable(plan: Plan, backends: Sequence[Backend]) -> tuple[int, ...]:
    """Ports that may answer for stable, best first: its own server, the same bundle elsewhere, a champion before.

    One that is down is left out as long as another is up: a request that has just failed on it is retried by rank, and
    the ranks may have changed meanwhile.
    """
    bundle = plan.pools.get(Role.STABLE)
    if bundle is None:
        return ()

    def rank(backend: Backend) -> tuple[bool, bool, int]:
        return backend.bundle != bundle, backend.role is not Role.STABLE, backend.port

    fit = [b for b in backends if b.proven and (b.bundle == bundle or b.role in (Role.STABLE, Role.PREVIOUS))]
    up = [b for b in fit if b.ready]
    return tuple(b.port for b in sorted(up or fit, key=rank))
