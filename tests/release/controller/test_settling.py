"""Counts wait where an arm's answers are missing, and only there."""

import numpy as np
import pytest

from ci_tools.release.controller.settling import Batch, Settling
from ci_tools.release.plan import Role
from ci_tools.release.traffic.access import Entry
from ci_tools.release.traffic.lines import Position

ANSWER, JOIN, TICK = 5.0, 0.2, 0.1


def entry(number, arm, t, ms=5.0, event=None):
    return Entry(1, True, arm, event, ms, f"q{number}", t)


def place(number):
    return Position(inode=1, offset=number)


def run(settling, arrivals, until):
    """Feed requests when they end; returns (time counted, entry) and the times at which counts waited."""
    taken, waited, pending = [], [], sorted(arrivals, key=lambda one: one.t + one.ms / 1000)
    for tick in range(int(until / TICK) + 1):
        now = tick * TICK
        ended = [one for one in pending if one.t + one.ms / 1000 <= now]
        pending = pending[len(ended) :]
        settling.add(Batch(now, place(tick), ended))
        taken += [(now, one) for one in settling.take(now)]
        waited += [now] * settling.waiting
    return taken, waited


def traffic(per_second, seconds, hangs=lambda t: 0.0, seed=0):
    rng, found = np.random.default_rng(seed), []
    for number in range(int(per_second * seconds)):
        t = number / per_second
        arm = Role.CANARY if rng.random() < 0.5 else Role.BASELINE
        hung = arm is Role.CANARY and rng.random() < hangs(t)
        found.append(entry(number, arm, t, 4000.0 if hung else 5.0, "timeouts" if hung else None))
    return found


def test_every_request_is_counted_once_and_none_before_its_prediction_may_be_there():
    arrivals = traffic(100, 10)
    taken, waited = run(Settling(ANSWER, JOIN), arrivals, 12)
    assert sorted(one.id for _, one in taken) == sorted(one.id for one in arrivals)
    assert all(at - (one.t + one.ms / 1000) >= JOIN - 1e-9 for at, one in taken)
    assert len(waited) * TICK < 2.0


@pytest.mark.parametrize(("per_second", "share"), [(4, 1.0), (100, 1.0), (100, 0.5)])
def test_an_arm_that_hangs_is_waited_for_until_its_timeouts_are_there(per_second, share):
    arrivals = traffic(per_second, 40, hangs=lambda t: share if t > 15 else 0.0)
    taken, waited = run(Settling(ANSWER, JOIN), arrivals, 50)
    assert sorted(one.id for _, one in taken) == sorted(one.id for one in arrivals)
    assert waited
    # Whenever one looks, what was counted is balanced: the hanging arm never seems to have no traffic.
    worst = 0
    for now in np.arange(20.0, 40.0, 0.5):
        arms = [one.arm for at, one in taken if at <= now]
        canary, baseline = arms.count(Role.CANARY), arms.count(Role.BASELINE)
        worst = max(worst, abs(canary - baseline) - 4 * np.sqrt(canary + baseline))
    assert worst <= 10


def test_an_outage_that_answers_at_once_is_not_waited_for():
    arrivals = [one._replace(event="errors") if one.arm is Role.CANARY else one for one in traffic(200, 5)]
    taken, _ = run(Settling(ANSWER, JOIN), arrivals, 6)
    late = [at - one.t for at, one in taken]
    assert np.quantile(late, 0.9) < 0.5


def test_where_nothing_waits_the_log_is_parted_and_where_something_does_it_is_not():
    settling = Settling(ANSWER, JOIN)
    settling.add(Batch(0.0, place(3), [entry(1, Role.STABLE, 0.0)]))
    assert settling.position(place(9)) == place(3)
    assert len(settling.take(1.0)) == 1
    assert settling.position(place(9)) == place(9)
    settling.add(Batch(1.0, place(9), [entry(number, Role.BASELINE, 1.0) for number in range(30)]))
    assert settling.take(2.0) == []
    assert settling.waiting
    assert settling.position(place(20)) is None
    settling.add(Batch(2.0, place(20), [entry(99, Role.STABLE, 7.0)]))
    assert len(settling.take(3.0)) == 30
