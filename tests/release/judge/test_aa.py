"""The live A/A judge: likelihoods against SciPy, and when it fires."""

import numpy as np
import pytest
from scipy import stats

from ci_tools.release.judge import aa
from tests.release.judge.cases import at_most

LARGEST = 0.25


def fired(rng, runs, bins, per_bin, theta, share=0.3, ratio=1.0):
    """Share of runs in which it ever fires."""
    total, ever = 0, np.zeros(runs, bool)
    p = ratio * share / (ratio * share + 1 - share)
    for _ in range(bins):
        m = rng.poisson(per_bin, runs)
        arm = rng.beta(p * (1 / theta - 1), (1 - p) * (1 / theta - 1), runs) if theta else p
        b = rng.binomial(m, arm)
        total = total + aa.log_likelihoods(b, m - b, share, LARGEST)
        ever |= aa.fired(total, LARGEST)
    return ever.mean()


@pytest.mark.parametrize("largest", [0.0, 0.25, 0.9])
def test_likelihoods_differ_as_those_of_scipy_do(largest):
    b, m = np.arange(9), 8
    found = aa.log_likelihoods(b, m - b, 0.3, largest)
    for h, (ratio, theta) in enumerate(aa.hypotheses(largest)):
        p = ratio * 0.3 / (ratio * 0.3 + 0.7)
        s = 1 / theta - 1 if theta else 0
        expected = stats.betabinom.logpmf(b, m, p * s, (1 - p) * s) if theta else stats.binom.logpmf(b, m, p)
        coefficient = stats.binom.logpmf(b, m, 0.5) - m * np.log(0.5)
        np.testing.assert_allclose(found[:, h], expected - coefficient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("theta", [0, 0.02, 0.12, 0.25])
def test_tolerated_bursts_hardly_ever_fire_it(theta):
    assert at_most(800 * fired(np.random.default_rng(6), 800, 200, 4, theta), 800, aa.ERROR)


@pytest.mark.parametrize(("theta", "ratio"), [(0.7, 1), (0, 3), (0.1, 0.3)])
def test_pools_beyond_what_is_foreseen_fire_it(theta, ratio):
    assert fired(np.random.default_rng(9), 100, 300, 5, theta, ratio=ratio) > 0.9


def test_one_event_says_nothing_about_correlation():
    found = aa.log_likelihoods(1, 0, 0.3, LARGEST)[: len(aa.tolerated(LARGEST)) + 1]
    np.testing.assert_allclose(found, found[0], atol=1e-12)


def test_tolerated_correlations_come_first_and_end_with_the_largest():
    tried = aa.tolerated(LARGEST)
    assert tried == sorted(tried)
    assert (tried[0], tried[-1]) == (0, LARGEST)
    assert aa.hypotheses(LARGEST)[: len(tried)] == [(1.0, theta) for theta in tried]
    assert all(theta > LARGEST or ratio != 1 for ratio, theta in aa.hypotheses(LARGEST)[len(tried) :])
    assert aa.tolerated(0.0) == [0.0]
