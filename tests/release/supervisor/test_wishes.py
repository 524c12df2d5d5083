"""When a plan's weights hold."""

import pytest

from ci_tools.files import write_atomic
from ci_tools.release.home import Home
from ci_tools.release.plan import Lease, Plan, Role, boot_time
from ci_tools.release.supervisor.wishes import LONGEST_LEASE, Wishes

PLAN = Plan(serial=4, pools={Role.STABLE: "A", Role.CANARY: "C"}, canary_weight=0.5)


@pytest.fixture
def home(tmp_path):
    write_atomic(tmp_path / "plan.json", PLAN.model_dump_json(), durable=False)
    return Home(tmp_path)


def lease(home, seconds=2.0, serial=4):
    write_atomic(home.lease, Lease(serial=serial, until=boot_time() + seconds).model_dump_json(), durable=False)


def leased(wishes):
    wishes.look()
    return wishes.leased


def test_weights_hold_until_the_lease_ends_and_again_when_it_is_renewed(home):
    wishes = Wishes(home)
    assert not leased(wishes)
    lease(home)
    assert leased(wishes)
    lease(home, -0.001)
    assert not leased(wishes)
    lease(home)
    assert leased(wishes)


def test_lease_ends_by_itself(home, monkeypatch):
    wishes = Wishes(home)
    lease(home)
    assert leased(wishes)
    later = boot_time() + 2.0
    monkeypatch.setattr("ci_tools.release.supervisor.wishes.boot_time", lambda: later)
    assert not leased(wishes)


def test_lease_of_another_plan_does_not_count(home):
    wishes = Wishes(home)
    lease(home, serial=3)
    assert not leased(wishes)


def test_lease_from_before_the_machine_was_restarted_does_not_count(home):
    wishes = Wishes(home)
    lease(home, LONGEST_LEASE + 100)
    assert not leased(wishes)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"serial": "4"}', '{"serial": 4, "until": 1e999}'])
@pytest.mark.parametrize("name", ["plan", "lease"])
def test_damaged_file_ends_the_lease_and_keeps_the_plan(home, name, damage):
    wishes = Wishes(home)
    lease(home)
    assert leased(wishes)
    getattr(home, name).write_text(damage)
    assert not leased(wishes)
    assert wishes.plan == PLAN
    assert str(getattr(home, name)) in wishes.problem
    write_atomic(home.plan, PLAN.model_dump_json(), durable=False)
    lease(home)
    assert leased(wishes)
    assert wishes.problem == ""


@pytest.mark.parametrize("name", ["plan", "lease"])
def test_removed_file_ends_the_lease_and_keeps_the_plan(home, name):
    wishes = Wishes(home)
    lease(home)
    assert leased(wishes)
    getattr(home, name).unlink()
    assert not leased(wishes)
    assert wishes.plan == PLAN


def test_files_that_never_were_are_no_problem(tmp_path):
    wishes = Wishes(Home(tmp_path))
    assert not leased(wishes)
    assert (wishes.plan, wishes.problem) == (None, "")
