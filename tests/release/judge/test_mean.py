"""Bets on bounded means, and the interval that comes with them."""

import math

import numpy as np
import pytest

from ci_tools.release.judge import mean, mixture
from ci_tools.release.judge.mean import Sample
from tests.release.judge.cases import at_most, mean_at_most_one


def test_factors_are_products_over_all_values():
    gains, counts = [0.4, -0.7, 0.1], [3, 2, 5]
    found = mean.log_factors(gains, counts, 1.2)
    for j, fraction in enumerate(mean.FRACTIONS):
        product = math.prod((1 + fraction / 1.2 * g) ** n for g, n in zip(gains, counts, strict=True))
        assert found[j] == pytest.approx(math.log(product), rel=1e-12)


def test_largest_loss_ruins_no_bet():
    assert np.isfinite(mean.log_factors([-1.2], [1000], 1.2)).all()


@pytest.mark.parametrize(
    ("values", "weights"), [([-1, 0, 1], [0.1, 0.8, 0.1]), ([-1, 0.25], [0.2, 0.8]), ([1, -0.01], [1 / 101, 100 / 101])]
)
def test_capital_does_not_grow_by_chance(values, weights):
    rng, runs, n = np.random.default_rng(17), 1500, 300
    draws = rng.choice(values, p=weights, size=(runs, n))
    assert np.dot(values, weights) == pytest.approx(0, abs=1e-9)
    bets = np.array(mean.FRACTIONS)
    paths = mixture.log_total(mixture.prior(len(bets)) + np.cumsum(np.log1p(draws[..., None] * bets), axis=1))
    for alpha in (0.1, 0.02):
        assert at_most((paths.max(axis=1) >= math.log(1 / alpha)).sum(), runs, alpha)
    assert mean_at_most_one(np.exp(paths[:, 50]))


def test_sample_is_the_same_however_it_is_written_and_holds_the_sums():
    one = Sample().add([0.5, 1.0], [2, 1], 0.0)
    assert (one.n, one.total) == (3, 2.0)
    assert one.squares == pytest.approx(0.5**2 * 2 + 1)
    two = one.add([0.0], [1], 0.0)
    assert two.squares == pytest.approx(one.squares + (2 / 3) ** 2)
    assert Sample.model_validate_json(two.model_dump_json()) == two


def test_interval_holds_the_mean_at_all_times():
    rng, runs, missed = np.random.default_rng(18), 400, 0
    for _ in range(runs):
        draws, sample, ever = rng.choice([-1.0, 0.0, 1.0], p=[0.02, 0.9, 0.08], size=(30, 40)), Sample(), False
        for row in draws:
            sample = sample.add(row, np.ones(len(row)), 0.0)
            low, high = sample.interval((-1, 1), 0.1)
            ever |= not low <= 0.06 <= high
        missed += ever
    assert at_most(missed, runs, 0.1)


def test_interval_uses_a_small_variance():
    rng = np.random.default_rng(19)
    wide, narrow = Sample(), Sample()
    for _ in range(50):
        wide = wide.add(rng.choice([0.0, 1.0], 100), np.ones(100), 0.5)
        narrow = narrow.add(rng.normal(0.5, 0.01, 100), np.ones(100), 0.5)
    assert np.ptp(narrow.interval((0, 1), 0.05)) < np.ptp(wide.interval((0, 1), 0.05)) / 5
    assert Sample().interval((0, 1), 0.05) == (0, 1)
