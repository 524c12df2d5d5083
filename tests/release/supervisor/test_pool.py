"""Roles are given to the servers that run; a promotion restarts nothing."""

from dataclasses import dataclass

import pytest

from ci_tools.release.plan import Health, Role
from ci_tools.release.supervisor.pool import assign

A, C, D = "A", "C", "D"


@dataclass
class Running:
    name: str
    role: Role
    bundle: str
    health: Health = Health.READY


@pytest.fixture
def ramping():
    return [Running("m1", Role.STABLE, A), Running("m2", Role.BASELINE, A), Running("m3", Role.CANARY, C)]


def test_first_plan_starts_everything():
    found = assign({Role.STABLE: A, Role.BASELINE: A, Role.CANARY: C}, [])
    assert found.missing == (Role.STABLE, Role.BASELINE, Role.CANARY)


def test_canary_becomes_stable_without_a_restart(ramping):
    found = assign({Role.STABLE: C, Role.PREVIOUS: A}, ramping[::-1])
    assert found.roles == {"m3": Role.STABLE, "m1": Role.PREVIOUS}
    assert (found.missing, found.leftover) == ((), ("m2",))


def test_rolled_back_canary_and_its_baseline_go(ramping):
    found = assign({Role.STABLE: A}, ramping)
    assert found.roles == {"m1": Role.STABLE}
    assert set(found.leftover) == {"m2", "m3"}


def test_champion_before_takes_over_again(ramping):
    watching = [Running("m3", Role.STABLE, C), Running("m1", Role.PREVIOUS, A)]
    found = assign({Role.STABLE: A}, watching)
    assert found.roles == {"m1": Role.STABLE}
    assert found.leftover == ("m3",)


@pytest.mark.parametrize("role", [Role.BASELINE, Role.CANARY])
def test_compared_pools_begin_afresh(role):
    watching = [Running("m3", Role.STABLE, C), Running("m1", Role.PREVIOUS, A)]
    found = assign({Role.STABLE: C, role: A}, watching)
    assert found.missing == (role,)
    assert found.leftover == ("m1",)


def test_stable_takes_no_server_that_is_compared(ramping):
    ramping[0].health = Health.STARTING
    found = assign({Role.STABLE: A, Role.BASELINE: A, Role.CANARY: C}, ramping)
    assert found.roles == {"m1": Role.STABLE, "m2": Role.BASELINE, "m3": Role.CANARY}


def test_ready_server_is_taken_before_one_that_starts(ramping):
    ramping[0].health = Health.STARTING
    found = assign({Role.STABLE: A}, ramping)
    assert found.roles == {"m2": Role.STABLE}


def test_old_servers_of_stable_stay_until_the_new_one_is_ready():
    servers = [Running("m1", Role.STABLE, A)]
    found = assign({Role.STABLE: D}, servers)
    assert (found.roles, found.missing) == ({"m1": Role.STABLE}, (Role.STABLE,))
    servers.append(Running("m2", Role.STABLE, D, Health.STARTING))
    assert assign({Role.STABLE: D}, servers).leftover == ()
    servers[1].health = Health.READY
    assert assign({Role.STABLE: D}, servers).leftover == ("m1",)


def test_canary_of_another_bundle_is_never_kept(ramping):
    found = assign({Role.STABLE: A, Role.BASELINE: A, Role.CANARY: D}, ramping)
    assert found.missing == (Role.CANARY,)
    assert found.leftover == ("m3",)


def test_given_up_canary_is_not_tried_again_and_never_promoted(ramping):
    ramping[2].health = Health.FAILED
    assert assign({Role.STABLE: A, Role.CANARY: C}, ramping).missing == ()
    promoted = assign({Role.STABLE: C, Role.PREVIOUS: A}, ramping)
    assert promoted.missing == (Role.STABLE,)
    assert "m3" in promoted.leftover


def test_draining_server_is_nobodys():
    found = assign({Role.STABLE: A}, [Running("m1", Role.STABLE, A, Health.DRAINING)])
    assert (found.missing, found.leftover) == ((Role.STABLE,), ())


def test_plan_without_pools_frees_all(ramping):
    assert set(assign({}, ramping).leftover) == {"m1", "m2", "m3"}
