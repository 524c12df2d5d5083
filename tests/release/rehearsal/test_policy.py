"""The rules of a rehearsal: seconds of healthy traffic prove them."""

import numpy as np
import pytest

from ci_tools.release.judge import Action, Arm, Observation, Policy, begin, decide, update
from ci_tools.release.judge.latency import bin_of
from ci_tools.release.rehearsal.policy import PER_SECOND, shortened

RULES = shortened(Policy(), decides=True)


def simulated(rules, seed, *, flipped=0.0, slower=1.0):
    """The judge's last word on `PER_SECOND` requests, a third of them mirrored."""
    rng, state, weight = np.random.default_rng(seed), begin(rules), rules.ramp.first
    decision = decide(state, rules)
    while decision.action is Action.CONTINUE:
        arms = rng.multinomial(rng.poisson(PER_SECOND * 0.2), [weight, weight, 1 - 2 * weight])
        canary, baseline, stable = (arm(rules, rng, *pair) for pair in zip(arms, (slower, 1.0, 1.0), strict=True))
        pairs = int(arms.sum() // 3)
        seen = Observation(
            seconds=state.seconds + 0.2,
            canary_weight=weight,
            baseline_weight=weight,
            canary=canary,
            baseline=baseline,
            stable=stable,
            pairs=pairs,
            flips=int(rng.binomial(pairs, flipped)),
        )
        state = update(state, seen, rules)
        decision = decide(state, rules)
        weight = decision.weight
    return decision


def arm(rules, rng, requests, slower):
    histogram = {}
    for milliseconds in slower * rng.lognormal(1.0, 0.5, requests):
        index = bin_of(milliseconds)
        histogram[index] = histogram.get(index, 0) + 1
    return Arm(requests=int(requests), events=dict.fromkeys(rules.events, 0), latency=histogram)


@pytest.mark.parametrize("seed", range(5))
def test_healthy_model_is_promoted_within_seconds(seed):
    decision = simulated(RULES, seed)
    assert decision.action is Action.PROMOTE
    assert decision.seconds <= 15


@pytest.mark.parametrize("change", [{"flipped": 0.9}, {"slower": 20.0}])
def test_spoiled_model_is_rolled_back_within_seconds(change):
    decision = simulated(RULES, 0, **change)
    assert decision.action is Action.ROLL_BACK
    assert decision.seconds <= 10


def test_probabilities_and_flips_are_those_of_release_yaml():
    policy = Policy(false_rollback=0.004, wrong_promotion=0.03)
    rules = shortened(policy, decides=True)
    assert (rules.false_rollback, rules.wrong_promotion, rules.flips) == (0.004, 0.03, policy.flips)


def test_model_that_decides_nothing_is_not_judged_by_flips():
    assert shortened(Policy(), decides=False).flips is None
