"""Shares: evidence by enumeration against SciPy, and an interval that holds at every peek."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from ci_tools.release.judge import proportion


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_expectation_is_one_at_the_null_and_less_beyond_it(p, n):
    s = np.arange(n + 1)
    above, below = np.exp(proportion.log_e_above(s, n, p)), np.exp(proportion.log_e_below(s, n, p))
    at = stats.binom.pmf(s, n, p)
    np.testing.assert_allclose([at @ above, at @ below], 1, rtol=1e-9)
    for factor in (0.2, 0.9):
        assert stats.binom.pmf(s, n, p * factor) @ above <= 1 + 1e-12
        assert stats.binom.pmf(s, n, 1 - (1 - p) * factor) @ below <= 1 + 1e-12


def test_evidence_agrees_with_likelihood_ratios_of_tilted_binomials():
    s, n, p = 9, 400, 0.05
    odds = p / (1 - p) * np.exp(proportion.TILTS)
    ratios = stats.binom.logpmf(s, n, odds / (1 + odds)) - stats.binom.logpmf(s, n, p)
    expected = logsumexp(ratios) - np.log(len(ratios))
    assert proportion.log_e_above(s, n, p) == pytest.approx(expected, rel=1e-9)


def test_ends_of_the_interval_are_where_the_evidence_suffices():
    for s, n in ((0, 50), (3, 50), (50, 50), (700, 100_000)):
        low, high = proportion.interval(s, n, 0.05)
        assert 0 <= low <= s / n <= high <= 1
        if s:
            assert proportion.log_e_above(s, n, low) == pytest.approx(np.log(40), abs=1e-4)
        if s < n:
            assert proportion.log_e_below(s, n, high) == pytest.approx(np.log(40), abs=1e-4)


def test_no_data_leaves_everything_possible():
    assert proportion.interval(0, 0, 0.05) == (0, 1)
    assert proportion.log_e_below(0, 0, 0.01) == pytest.approx(0)


def test_interval_holds_the_running_mean_of_a_changing_share_at_all_times():
    rng, runs, n = np.random.default_rng(16), 1000, 1500
    p = np.where(np.arange(n) // 100 % 2, 0.08, 0.01)
    s = np.cumsum(rng.random((runs, n)) < p, axis=1)
    missed = np.zeros(runs, bool)
    for look in (10, 50, 100, 150, 200, 300, 500, 700, 1000, 1499):
        low, high = proportion.interval(s[:, look], look + 1, 0.1)
        mean = p[: look + 1].mean()
        missed |= (low > mean) | (high < mean)
    assert missed.mean() <= 0.1 + 4 * np.sqrt(0.09 / runs)


def test_interval_narrows():
    widths = [np.subtract(*proportion.interval(n // 100, n, 0.05)[::-1]) for n in (100, 1000, 10_000, 100_000)]
    assert (np.diff(widths) < 0).all()
    assert widths[-1] < 0.004
