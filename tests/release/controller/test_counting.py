"""Counts belong to the weights under which requests were routed."""

import pytest

from ci_tools.release.controller.counting import observations
from ci_tools.release.controller.predictions import Pair
from ci_tools.release.judge import Policy, begin, update
from ci_tools.release.judge.latency import bin_of
from ci_tools.release.plan import Role
from ci_tools.release.traffic.access import Entry

POLICY = Policy()
SERIALS = {3: (0.0, 0.0), 4: (0.1, 0.1), 5: (0.2, 0.2), 6: (0.1, 0.1)}


def entry(serial, arm=Role.CANARY, event=None, ms=8.0, leased=True, id_="q"):
    return Entry(serial, leased, arm, event, ms, id_, 0.0)


def told(entries, current=(0.2, 0.2), policy=POLICY, score=lambda id_, canary: None, **rest):
    return observations(entries, serials=SERIALS, current=current, seconds=7.0, policy=policy, score=score, **rest)


def test_late_requests_come_first_with_the_weights_of_their_time():
    found = told([entry(5), entry(4), entry(3, Role.STABLE), entry(5, Role.BASELINE), entry(6)])
    assert [(one.canary_weight, one.canary.requests, one.stable.requests) for one in found] == [
        (0.0, 0, 1), (0.1, 2, 0), (0.2, 1, 0)
    ]  # fmt: skip
    assert found[-1].baseline.requests == 1
    assert {one.seconds for one in found} == {7.0}
    state = begin(POLICY)
    for one in found:
        state = update(state, one, POLICY)
    assert state.span.weights == (0.2, 0.2)
    assert state.total.canary == 3


def test_the_weights_in_force_are_told_where_nothing_happened():
    (only,) = told([])
    assert (only.canary_weight, only.canary.requests) == (0.2, 0)


def test_requests_of_other_releases_and_without_a_lease_are_left_out():
    (only,) = told([entry(2), entry(99), entry(5, leased=False)])
    assert only.canary.requests == 0


@pytest.mark.parametrize("event", ["errors", "timeouts", "invalid_outputs"])
def test_bad_outcomes_are_counted_by_kind(event):
    (only,) = told([entry(5, event=event), entry(5)])
    assert only.canary.events == {**dict.fromkeys(POLICY.events, 0), event: 1}
    assert only.canary.requests == 2


def test_an_outcome_without_a_metric_of_its_own_is_an_error():
    policy = Policy.model_validate({"events": {"errors": {}}})
    (only,) = told([entry(5, event="timeouts")], policy=policy)
    assert only.canary.events == {"errors": 1}


def test_latencies_fall_into_the_judges_bins():
    (only,) = told([entry(5, ms=8.0), entry(5, ms=8.0), entry(5, ms=0.0)])
    assert only.canary.latency[bin_of(8.0)] == 2
    assert sum(only.canary.latency.values()) == 3


def test_scores_are_those_of_answers_that_went_well():
    scores = {("q1", True): 1.0, ("q2", False): 0.5, ("q3", True): 0.1, ("q4", False): 0.2}
    entries = [entry(5, id_="q1"), entry(5, Role.BASELINE, id_="q2"), entry(5, event="errors", id_="q3"),
               entry(5, Role.STABLE, id_="q4")]  # fmt: skip
    (only,) = told(entries, score=lambda id_, canary: scores.get((id_, canary)))
    assert (only.canary.scores, only.baseline.scores, only.stable.scores) == ({31: 1}, {16: 1}, {})


def test_pairs_and_losses_are_told_once_and_last():
    pairs = [Pair("q1", (0.2,), (0.7,)), Pair("q2", (0.2,), (0.3,)), Pair("q3", None, (0.3,)), Pair("q4", (0.2,), None)]
    found = told([entry(4)], pairs=pairs, thresholds=(0.5, 0.5), losses=(0.25,))
    assert [(one.pairs, one.flips, one.losses) for one in found] == [(0, 0, ()), (3, 2, (0.25,))]
    (only,) = told([], pairs=pairs, thresholds=None)
    assert (only.pairs, only.flips) == (4, 0)
