"""The robust companion: symmetry, what it owes to the design's bound, and bursts at every peek."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ci_tools.release.judge import mixture, robust
from tests.release.judge.cases import at_most, mean_at_most_one

PRIOR = mixture.prior(len(robust.RATIOS), robust.IDLE)


def test_factors_of_opposite_differences_sum_to_two_and_rise():
    d = np.linspace(-50, 50, 201)
    f = np.exp(robust.log_factors(d))
    np.testing.assert_allclose(f + f[::-1], 2, rtol=1e-12)
    assert (np.diff(f[:, 1:], axis=0) >= 0).all()


def test_every_bet_grows_at_least_as_fast_as_the_self_normalised_one():
    d = np.linspace(-5, 5, 101)[:, None]
    x = d * np.log(robust.RATIOS) / 2
    assert (robust.log_factors(d[:, 0]) >= x - x**2 / 2 - 1e-12).all()


def test_exchanging_the_arms_turns_the_sign():
    assert robust.difference(5, 100, 2, 120) == -robust.difference(2, 120, 5, 100)
    assert robust.difference(5, 100, 2, 100) == 3
    assert robust.difference(5, 100, 2, 0) == 0
    assert robust.safe_difference(5, 100, 2, 100, 1.5) == -2


def clustered(mean, size):
    """Law of a count with clusters: negative binomial of mean `mean` and variance `mean·size`; Poisson at size 1."""
    x = np.arange(400)
    return x, stats.poisson.pmf(x, mean) if size == 1 else stats.nbinom.pmf(x, mean / (size - 1), 1 / size)


@pytest.mark.parametrize(("mean", "size"), [*itertools.product((0.05, 1.0, 8.0), (1, 3, 10))])
def test_expectation_at_most_one_where_the_canary_is_no_worse(mean, size):
    x, baseline = clustered(mean, size)
    for better in (1.0, 0.7, 0.1):
        _, canary = clustered(mean * better, size)
        f = np.exp(robust.log_factors(robust.difference(x[:, None], 100, x, 100)))
        assert (np.einsum("c,b,cbj->j", canary, baseline, f) <= 1 + 1e-9).all()


@pytest.mark.parametrize(("mean", "size", "ratio"), [*itertools.product((0.05, 1.0, 8.0), (1, 3, 10), (1.2, 1.5, 3))])
def test_expectation_at_most_one_at_the_margin(mean, size, ratio):
    x, baseline = clustered(mean, size)
    _, canary = clustered(mean * ratio, size)
    f = np.exp(robust.log_factors(robust.safe_difference(x[:, None], 100, x, 100, ratio)))
    assert (np.einsum("c,b,cbj->j", canary, baseline, f) <= 1 + 1e-9).all()


def peaks(rng, runs, bins, ratio, walk):
    """Largest and last log e-value of runs in which pools fail in bursts; `walk` lets both fail more or less often."""
    wealth, peak = np.broadcast_to(PRIOR, (runs, len(PRIOR))), np.zeros(runs)
    for index in range(bins):
        rate = 0.005 * (1 + math.sin(index / 20)) if walk else 0.005
        n = rng.poisson(160, (2, runs))
        p = np.clip(rng.gamma(0.5, rate / 0.5, (2, runs)) * np.array([[ratio], [1]]), 0, 1)
        e = rng.binomial(n, p)
        wealth = mixture.step(wealth, robust.log_factors(robust.difference(e[0], n[0], e[1], n[1])), PRIOR)
        peak = np.maximum(peak, mixture.log_total(wealth))
    return peak, mixture.log_total(wealth)


@pytest.mark.parametrize("walk", [False, True])
def test_bursts_and_load_keep_the_budget_at_every_peek(walk):
    peak, last = peaks(np.random.default_rng(10), 2000, 250, 1.0, walk)
    for alpha in (0.1, 0.01):
        assert at_most((peak >= math.log(1 / alpha)).sum(), len(peak), alpha)
    assert mean_at_most_one(np.exp(last))


def test_harm_is_found_through_bursts():
    peak, _ = peaks(np.random.default_rng(11), 200, 600, 3.0, False)
    assert (peak >= math.log(500)).mean() > 0.95
