"""The live A/A judge: likelihoods against SciPy, and what it rules out."""

import numpy as np
import pytest
from scipy import stats

from ci_tools.release.judge import aa, events
from tests.release.judge.cases import at_most

THETAS = events.correlations(0.25)
ERROR = 0.02


def excluded(rng, runs, bins, per_bin, theta, share=0.3, ratio=1.0):
    """Which correlations were ever ruled out, [runs, K]."""
    total, ever = 0, np.zeros((runs, len(THETAS)), bool)
    p = ratio * share / (ratio * share + 1 - share)
    for _ in range(bins):
        m = rng.poisson(per_bin, runs)
        arm = rng.beta(p * (1 / theta - 1), (1 - p) * (1 / theta - 1), runs) if theta else p
        b = rng.binomial(m, arm)
        total = total + aa.log_likelihoods(b, m - b, share, THETAS)
        ever |= aa.exclude(total, THETAS, ERROR)
    return ever


def test_likelihoods_differ_as_those_of_scipy_do():
    b, m = np.arange(9), 8
    found = aa.log_likelihoods(b, m - b, 0.3, THETAS)
    for h, (ratio, theta) in enumerate(aa.hypotheses(THETAS)):
        p = ratio * 0.3 / (ratio * 0.3 + 0.7)
        s = 1 / theta - 1 if theta else 0
        expected = stats.betabinom.logpmf(b, m, p * s, (1 - p) * s) if theta else stats.binom.logpmf(b, m, p)
        coefficient = stats.binom.logpmf(b, m, 0.5) - m * np.log(0.5)
        np.testing.assert_allclose(found[:, h], expected - coefficient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("theta", "index"), [(0, 0), (0.05, 1), (0.02, 1), (0.25, 2), (0.12, 2)])
def test_what_covers_the_truth_is_hardly_ever_ruled_out(theta, index):
    ever = excluded(np.random.default_rng(6), 1000, 200, 4, theta)
    assert at_most(ever[:, index].sum(), len(ever), ERROR)


def test_calm_pools_rule_out_bursts():
    ever = excluded(np.random.default_rng(7), 200, 250, 5, 0)
    assert ever[:, -1].mean() > 0.9


def test_bursts_rule_out_the_plain_coin():
    ever = excluded(np.random.default_rng(8), 200, 150, 5, 0.25)
    assert ever[:, 0].mean() > 0.9


@pytest.mark.parametrize(("theta", "ratio"), [(0.7, 1), (0, 3)])
def test_pools_beyond_what_is_foreseen_rule_out_all(theta, ratio):
    ever = excluded(np.random.default_rng(9), 100, 300, 5, theta, ratio=ratio)
    assert ever.all(axis=1).mean() > 0.9


def test_one_event_says_nothing_about_correlation():
    found = aa.log_likelihoods(1, 0, 0.3, THETAS)[: len(aa.tolerated(THETAS)) + 1]
    np.testing.assert_allclose(found, found[0], atol=1e-12)


def test_tolerated_correlations_come_first_and_end_with_the_largest():
    tried = aa.tolerated(THETAS)
    assert tried == sorted(tried)
    assert (tried[0], tried[aa.WITHIN], tried[-1]) == THETAS
    assert aa.hypotheses(THETAS)[: len(tried)] == [(1.0, theta) for theta in tried]
    assert aa.tolerated((0.0,)) == [0.0]
