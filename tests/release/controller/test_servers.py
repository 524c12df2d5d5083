"""How servers fare is told per role, and time passes only while the supervisor tells."""

import pytest

from ci_tools.release.controller.servers import Servers
from ci_tools.release.plan import Actual, Health, Member, Plan, Role

PLAN = Plan(serial=1, pools={Role.STABLE: "aaa", Role.CANARY: "bbb"}, mirror_share=1.0)


def member(role, bundle, health, name="m1", reason=""):
    return Member(name=name, role=role, bundle=bundle, health=health, port=1, pid=1, reason=reason)


def look(servers, now, *members, heartbeat=None):
    actual = Actual(members=members, heartbeat=now if heartbeat is None else heartbeat)
    return servers.look(now, actual, PLAN)[Role.CANARY]


def test_time_without_a_ready_server_adds_up_and_ends_with_one():
    servers, starting = Servers(), member(Role.CANARY, "bbb", Health.STARTING)
    assert [look(servers, now, starting).unready_seconds for now in (10.0, 14.0, 19.0)] == [0.0, 4.0, 9.0]
    assert look(servers, 20.0, member(Role.CANARY, "bbb", Health.READY)).unready_seconds == 0.0
    assert look(servers, 25.0, starting).unready_seconds == 5.0


def test_a_silent_supervisor_lets_no_time_pass():
    servers, starting = Servers(), member(Role.CANARY, "bbb", Health.STARTING)
    look(servers, 10.0, starting)
    assert look(servers, 90.0, starting, heartbeat=10.0).unready_seconds == 0.0


@pytest.mark.parametrize(
    ("healths", "told"),
    [
        ((), Health.STARTING),
        ((Health.STARTING, Health.READY), Health.READY),
        ((Health.FAILED, Health.STARTING), Health.FAILED),
        ((Health.DRAINING,), Health.DRAINING),
    ],
)
def test_the_best_server_of_a_role_speaks_for_it(healths, told):
    members = [member(Role.CANARY, "bbb", health, f"m{number}") for number, health in enumerate(healths)]
    assert look(Servers(), 1.0, *members, member(Role.CANARY, "old", Health.READY, "m9")).health is told


def test_the_reason_of_a_failure_is_kept():
    assert look(Servers(), 1.0, member(Role.CANARY, "bbb", Health.FAILED, reason="signal 9")).reason == "signal 9"
