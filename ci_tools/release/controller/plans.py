"""Plans for the supervisor: which servers a phase needs, and who gets which traffic."""

from ci_tools.release.controller.settings import Settings
from ci_tools.release.controller.standing import Standing
from ci_tools.release.plan import Plan, Role


def alone(standing: Standing, champion: str, release: str = "") -> Plan:
    """One bundle gets all traffic."""
    return Plan(serial=standing.serial, release=release, pools={Role.STABLE: champion})


def mirrored(standing: Standing, release: str, bundle: str, share: float) -> Plan:
    """The candidate gets copies, and a fresh server of the champion stands by to be compared with."""
    pools = {Role.STABLE: standing.champion, Role.BASELINE: standing.champion, Role.CANARY: bundle}
    return Plan(serial=standing.serial, release=release, pools=pools, mirror_share=share)


def weighted(plan: Plan, weight: float, share: float) -> Plan:
    """The same servers; canary and baseline get the same weight."""
    changes = {"serial": plan.serial + 1, "canary_weight": weight, "baseline_weight": weight, "mirror_share": share}
    return plan.model_copy(update=changes)


def promoted(standing: Standing, release: str, bundle: str) -> Plan:
    """The candidate gets all traffic; the champion before stays warm."""
    pools = {Role.STABLE: bundle, Role.PREVIOUS: standing.champion}
    return Plan(serial=standing.serial, release=release, pools=pools)


def mirror_share(per_second: float, settings: Settings) -> float:
    """Share of requests to mirror at an expected rate of them."""
    if per_second <= settings.mirror_per_second:
        return 1.0
    return round(settings.mirror_per_second / per_second, 4)
