"""Requests that do not arrive as routed."""

import numpy as np
import pytest

from ci_tools.release.judge import Action, begin, decide, routing, update
from ci_tools.release.judge.wealth import Requests
from tests.release.judge.cases import at_most, few, play, span, traffic


def doubted(rng, runs, bins, per_bin, factor):
    """Share of runs ever doubted, where `factor` times the canary's requests are counted."""
    wealth, ever = routing.begin(runs), np.zeros(runs, bool)
    for index in range(bins):
        canary = (0.05, 0.1, 0.3)[index % 3]
        counts = rng.poisson(per_bin * canary * factor, runs), rng.poisson(per_bin * 0.1, runs)
        wealth = routing.step(wealth, Requests(*counts, 0, canary, 0.1))
        ever |= routing.doubted(wealth)
    return ever.mean()


@pytest.mark.parametrize("factor", [1.0, routing.SLACK, 1 / routing.SLACK])
def test_requests_within_the_slack_are_believed(factor):
    assert at_most(1000 * doubted(np.random.default_rng(40), 1000, 200, 400, factor), 1000, routing.ERROR)


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.2])
def test_lost_counts_are_noticed(factor):
    assert doubted(np.random.default_rng(41), 100, 300, 400, factor) == 1


def test_an_arm_that_is_not_heard_is_neither_harm_nor_proof():
    for canary, baseline in (((0, 0), (200, 2)), ((200, 2), (0, 0))):
        policy = few(no_traffic_seconds=9000.0)
        state = begin(policy)
        for index in range(200):
            state = update(state, span(5.0 * (index + 1), canary, baseline), policy)
            assert decide(state, policy).action in (Action.CONTINUE, Action.HOLD)
        assert decide(state, policy).action is Action.HOLD
        assert decide(state, policy).sentence.startswith("Requests do not arrive as routed: weights 0.1 and 0.1 now, ")


def test_harm_is_still_found_where_half_of_the_canarys_counts_are_lost():
    policy = few()
    halved = (
        one.model_copy(update={"canary": one.canary.model_copy(update={
            "requests": one.canary.requests // 2, "events": {"errors": one.canary.events["errors"] // 2}})})
        for one in traffic(np.random.default_rng(42), policy, 200, 200, (0.1, 0.01, 0.01))
    )  # fmt: skip
    state = play(halved, policy)
    assert state.doubted
    assert decide(state, policy).action is Action.ROLL_BACK
