"""The ramp by damage budget."""

import numpy as np
import pytest
from scipy.stats import poisson

from ci_tools.release.judge import proportion, ramp
from ci_tools.release.judge.policy import Ramp
from ci_tools.release.judge.ramp import Outcomes
from tests.release.judge.cases import at_most

POLICY = Ramp(damage=100, first=0.1, smallest=0.001, largest=0.5, growth=4, step_seconds=30, confidence=0.95)


def test_first_weight_would_bear_a_canary_that_fails_every_time():
    weight = ramp.next_weight(0, 1000, [Outcomes(0, 0, 0, 0)], POLICY)
    assert poisson.cdf(100, weight * 1000 * 30) == pytest.approx(0.95)


@pytest.mark.parametrize("left", [1, 1.5, 7, 50, 2000.9])
@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.999])
def test_chance_leads_beyond_what_is_left_as_often_as_confidence_says(left, confidence):
    assert poisson.cdf(left, ramp.bearable(left, confidence)) == pytest.approx(confidence)


@pytest.mark.parametrize("left", [0.99, 0.0, -3.0])
def test_nothing_is_bearable_where_no_event_is_left(left):
    assert ramp.bearable(left, 0.95) == 0


def test_next_step_costs_at_most_what_is_left():
    outcomes = Outcomes(12, 2000, 5, 2000)
    weight = ramp.next_weight(0.1, 1000, [outcomes], POLICY)
    high, low = proportion.interval(12, 2000, 0.05)[1], proportion.interval(5, 2000, 0.05)[0]
    left = 100 - (12 - low * 2000)
    assert poisson.cdf(left, weight * 1000 * 30 * (high - low)) == pytest.approx(0.95)


def test_the_kind_of_event_that_allows_least_decides():
    good, bad = Outcomes(0, 5000, 0, 5000), Outcomes(150, 5000, 5, 5000)
    both = ramp.next_weight(0.1, 1000, [good, bad], POLICY)
    assert both == min(both, ramp.next_weight(0.1, 1000, [good, good], POLICY))
    assert both == POLICY.smallest


def test_weight_grows_with_evidence_within_its_limits():
    weights = [ramp.next_weight(0.1, 100, [Outcomes(0, n, 0, n)], POLICY) for n in (0, 100, 1000, 10_000, 100_000)]
    assert weights == sorted(weights)
    assert weights[-1] == pytest.approx(0.4)
    assert ramp.next_weight(0.4, 0, [Outcomes(0, 0, 0, 0)], POLICY) == 0.5


def test_excess_stays_within_the_budget():
    rng, runs, over = np.random.default_rng(27), 80, 0
    policy = POLICY.model_copy(update={"damage": 60.0})
    for _ in range(runs):
        weight, counts = 0.0, np.zeros(4, int)
        for _ in range(15):
            weight = ramp.next_weight(weight, 50, [Outcomes(*counts)], policy)
            if weight == policy.smallest:
                break
            n = int(50 * 30 * weight)
            c, b = rng.binomial(n, 0.04), rng.binomial(n, 0.01)
            counts += [c, n, b, n]
        excess = counts[0] - 0.01 * counts[1]
        over += excess > policy.damage
    assert at_most(over, runs, 0.05)
