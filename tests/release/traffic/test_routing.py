"""From plan and servers to pools and weights."""

import itertools
import math

from ci_tools.release.plan import Plan, Role
from ci_tools.release.traffic.routing import NOTHING, PARTS, Backend, route

POOLS = {Role.STABLE: "A", Role.BASELINE: "A", Role.CANARY: "C"}
PLAN = Plan(serial=17, pools=POOLS, canary_weight=0.1, baseline_weight=0.1, mirror_share=0.2)
PORTS = {Role.STABLE: 1, Role.BASELINE: 2, Role.CANARY: 3, Role.PREVIOUS: 4}


def backend(role, bundle="A", *, ready=True, proven=True, port=None):
    return Backend(role=role, bundle=bundle, port=port or PORTS[role], ready=ready, proven=proven)


STABLE, BASELINE, CANARY = backend(Role.STABLE), backend(Role.BASELINE), backend(Role.CANARY, "C")
SERVERS = [STABLE, BASELINE, CANARY]


def test_weights_are_in_force_while_they_are_leased():
    routing = route(PLAN, SERVERS, leased=True)
    assert (routing.name, routing.leased) == ("17", True)
    assert (routing.canary_parts, routing.baseline_parts) == (round(0.1 * PARTS), round(0.1 * PARTS))
    assert routing.mirror_share == 0.2
    assert (routing.stable, routing.baseline, routing.canary) == ((1, 2), (2, 1), (3, 1))


def test_parts_of_all_traffic_are_no_more_than_all():
    """`PARTS` is odd: two halves of it round to one part too many."""
    routing = route(PLAN.model_copy(update={"canary_weight": 0.5, "baseline_weight": 0.5}), SERVERS, leased=True)
    assert routing.canary_parts + routing.baseline_parts == PARTS


def test_without_a_lease_all_traffic_is_on_stable_and_nothing_is_mirrored():
    routing = route(PLAN, SERVERS, leased=False)
    assert (routing.name, routing.leased) == ("17-safe", False)
    assert (routing.canary_parts, routing.baseline_parts, routing.mirror_share) == (0, 0, 0.0)


def test_weights_wait_for_every_server_that_they_need():
    for missing in (BASELINE, CANARY):
        unproven = backend(missing.role, missing.bundle, ready=False, proven=False)
        others = [one for one in SERVERS if one is not missing]
        for servers in (others, [*others, unproven]):
            assert route(PLAN, servers, leased=True) == route(PLAN, servers, leased=False)


def test_canary_that_ended_keeps_its_weight_and_its_requests_go_on_to_stable():
    routing = route(PLAN, [STABLE, BASELINE, backend(Role.CANARY, "C", ready=False)], leased=True)
    assert routing.leased
    assert routing.canary == (3, 1)


def test_pool_is_never_served_by_another_bundle():
    other = backend(Role.CANARY, "D")
    assert route(PLAN, [STABLE, BASELINE, other], leased=True).canary == ()


def test_weights_of_zero_need_no_server():
    plan = Plan(serial=3, pools=POOLS)
    assert route(plan, [STABLE], leased=True).name == "3"


def test_stable_falls_back_to_its_bundle_elsewhere_and_then_to_the_champion_before():
    plan = Plan(serial=5, pools={Role.STABLE: "A", Role.PREVIOUS: "Z"})
    down, previous = backend(Role.STABLE, ready=False), backend(Role.PREVIOUS, "Z")
    assert route(plan, [STABLE, previous], leased=True).stable == (1, 4)
    assert route(plan, [down, previous], leased=True).stable == (4,)
    assert route(plan, [down, BASELINE, previous], leased=True).stable == (2, 4)
    assert route(plan, [down], leased=True).stable == (1,)


def test_old_server_of_stable_serves_until_the_new_one_is_ready():
    plan = Plan(serial=6, pools={Role.STABLE: "N"})
    coming = backend(Role.STABLE, "N", ready=False, proven=False, port=9)
    assert route(plan, [STABLE, coming], leased=True).stable == (1,)
    assert route(plan, [STABLE, backend(Role.STABLE, "N", port=9)], leased=True).stable == (9, 1)


def test_canary_is_no_fallback_for_stable():
    assert route(PLAN, [CANARY], leased=True).stable == ()


def test_nothing_is_served_without_a_plan_or_without_pools():
    assert route(None, SERVERS, leased=True) == NOTHING
    assert route(Plan(serial=1), SERVERS, leased=True).stable == ()


def test_plan_in_force_has_a_stable_server_and_never_a_port_of_a_server_that_was_not_proven():
    states = [(True, True), (False, True), (False, False)]
    for kinds in itertools.product([None, *states], repeat=3):
        servers = [
            backend(one.role, one.bundle, ready=kind[0], proven=kind[1])
            for one, kind in zip(SERVERS, kinds, strict=True)
            if kind is not None
        ]
        routing = route(PLAN, servers, leased=True)
        assert routing.ports <= {one.port for one in servers if one.proven}
        assert routing.stable or not routing.leased


def test_weights_and_mirroring_are_drawn_independently():
    assert math.gcd(PARTS, 1_000_000) == 1
    assert all(PARTS % divisor for divisor in range(2, math.isqrt(PARTS) + 1)), "no prime"
