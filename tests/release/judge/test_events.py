"""The coin under bursts, against SciPy, by enumeration, and at every peek."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ci_tools.release.judge import events, mixture, wealth
from tests.release.judge.cases import at_most, mean_at_most_one

THETAS = events.correlations(0.25)
SHARES = (0.01, 0.2, 0.5, 0.9)


def law(m, p, theta):
    """Probabilities of 0…m events on the canary, by SciPy."""
    c = np.arange(m + 1)
    if not theta:
        return stats.binom.pmf(c, m, p)
    s = 1 / theta - 1
    return stats.betabinom.pmf(c, m, p * s, (1 - p) * s)


def coin(ratio, share):
    return ratio * share / (ratio * share + 1 - share)


@pytest.mark.parametrize(("share", "null"), [*itertools.product(SHARES, (1.0, 1.5))])
def test_factors_are_the_likelihood_ratios_of_scipy(share, null):
    for m in (1, 4, 30):
        c = np.arange(m + 1)
        factors = events.log_factors(c, m - c, share, null, events.WORSE, THETAS)
        for k, j in itertools.product(range(len(THETAS)), range(len(events.WORSE))):
            bet = law(m, coin(null * events.WORSE[j], share), THETAS[k])
            np.testing.assert_allclose(factors[:, k, j], np.log(bet / law(m, coin(null, share), THETAS[k])), rtol=1e-7,
                                       atol=1e-9)  # fmt: skip


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_expectation_is_one_at_the_null_and_less_where_the_canary_is_better(m, share):
    c = np.arange(m + 1)
    f = np.exp(events.log_factors(c, m - c, share, 1.0, events.WORSE, THETAS))
    for k, theta in enumerate(THETAS):
        np.testing.assert_allclose(law(m, coin(1.0, share), theta) @ f[:, k], 1, rtol=1e-10)
        for ratio in (0.01, 0.1, 0.7, 0.99):
            assert (law(m, coin(ratio, share), theta) @ f[:, k] <= 1 + 1e-12).all()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_reversed_expectation_is_one_at_the_margin_and_less_where_the_canary_is_worse(m, share):
    c = np.arange(m + 1)
    f = np.exp(events.log_factors(c, m - c, share, 1.5, events.BETTER, THETAS))
    for k, theta in enumerate(THETAS):
        np.testing.assert_allclose(law(m, coin(1.5, share), theta) @ f[:, k], 1, rtol=1e-10)
        for ratio in (1.6, 3, 100):
            assert (law(m, coin(ratio, share), theta) @ f[:, k] <= 1 + 1e-12).all()


@pytest.mark.parametrize("multiples", [events.WORSE, events.BETTER])
def test_pools_of_equal_size_with_a_smaller_correlation_are_covered_by_a_larger_one(multiples):
    for m, (k, theta) in itertools.product((2, 3, 6, 20, 50), enumerate(THETAS)):
        c = np.arange(m + 1)
        f = np.exp(events.log_factors(c, m - c, 0.5, 1.0, multiples, THETAS))[:, k]
        for smaller in np.linspace(0, theta, 6):
            assert (law(m, 0.5, smaller) @ f <= 1 + 1e-9).all()


def test_coin_without_bursts_ignores_how_events_are_grouped_and_ordered():
    parts = np.array([[3, 1], [0, 2], [7, 4]])
    whole = events.log_factors(*parts.sum(axis=0), 0.3, 1.0, events.WORSE, (0.0,))
    summed = sum(events.log_factors(c, b, 0.3, 1.0, events.WORSE, (0.0,)) for c, b in parts)
    np.testing.assert_allclose(summed, whole, rtol=1e-12, atol=1e-12)


def test_one_event_in_a_bin_costs_nothing_to_allow_for_bursts():
    for c, b in ((1, 0), (0, 1)):
        factors = events.log_factors(c, b, 0.3, 1.0, events.WORSE, THETAS)
        np.testing.assert_allclose(factors, np.broadcast_to(factors[:1], factors.shape), atol=1e-12)


def test_huge_counts_stay_finite():
    factors = events.log_factors(10**7, 10**7, 0.5, 1.0, events.WORSE, THETAS)
    assert np.isfinite(factors).all()


def test_outage_factors_are_binomial_likelihood_ratios():
    c = np.arange(11)
    factors = events.outage_factors(c, 10, 0.2)
    for j, step in enumerate((0.0, *events.OUTAGE)):
        bet = stats.binom.logpmf(c, 10, 0.2 + 0.8 * step) - stats.binom.logpmf(c, 10, 0.2)
        np.testing.assert_allclose(factors[:, j], bet, rtol=1e-9, atol=1e-10)
    for rate in (0.0, 0.05, 0.2):
        assert (stats.binom.pmf(c, 10, rate) @ np.exp(factors) <= 1 + 1e-12).all()


def evidence(rng, runs, bins, per_bin, ratio, theta, shares):
    """Paths [bins, runs] of the smallest log e-value over THETAS; shares may depend on the path so far."""
    money = wealth.begin(THETAS[-1], runs).harm_KJ
    prior, paths = mixture.prior(len(events.WORSE), events.IDLE), []
    for index in range(bins):
        share = shares(index)
        m, p = rng.poisson(per_bin, runs), coin(ratio, share)
        if theta:
            p = rng.beta(p * (1 / theta - 1), (1 - p) * (1 / theta - 1), runs)
        c = rng.binomial(m, p)
        money = mixture.step(money, events.log_factors(c, m - c, share, 1.0, events.WORSE, THETAS), prior)
        paths.append(mixture.log_total(money).min(axis=-1))
    return np.array(paths)


@pytest.mark.parametrize(
    ("theta", "ratio", "per_bin"), [(0, 1, 0.5), (0.05, 1, 3), (0.25, 1, 6), (0.12, 1, 6), (0, 0.8, 3)]
)
def test_false_alarms_stay_within_their_budget_at_every_peek(theta, ratio, per_bin):
    rng = np.random.default_rng(3)
    paths = evidence(rng, 1500, 150, per_bin, ratio, theta, lambda index: (0.05, 0.5, 0.2)[index // 10 % 3])
    for alpha in (0.1, 0.02):
        assert at_most((paths.max(axis=0) >= math.log(1 / alpha)).sum(), paths.shape[1], alpha)
    assert all(mean_at_most_one(np.exp(path)) for path in paths[::25])


def test_weights_that_were_chosen_from_the_evidence_keep_the_budget():
    """The canary gets more traffic where it looks bad, which would ruin a test that took the weights for given."""
    rng, runs, prior = np.random.default_rng(29), 1500, wealth.WORSE_PRIOR
    money, peak = wealth.begin(THETAS[-1], runs).harm_KJ, np.zeros(runs)
    for _ in range(150):
        now = mixture.log_total(money).min(axis=-1)
        m, much = rng.poisson(3, runs), now > 0
        c = rng.binomial(m, np.where(much, 0.5, 0.1))
        lots, little = (events.log_factors(c, m - c, w, 1.0, events.WORSE, THETAS) for w in (0.5, 0.1))
        money = mixture.step(money, np.where(much[:, None, None], lots, little), prior)
        peak = np.maximum(peak, mixture.log_total(money).min(axis=-1))
    assert at_most((peak >= math.log(20)).sum(), runs, 0.05)
    assert mean_at_most_one(np.exp(mixture.log_total(money).min(axis=-1)))


def test_ignoring_bursts_would_break_the_budget():
    rng, runs = np.random.default_rng(4), 400
    money = wealth.begin(0.0, runs).harm_KJ
    peak = np.zeros(runs)
    for _ in range(150):
        c = rng.binomial(6, rng.beta(1.5, 1.5, runs))
        factors = events.log_factors(c, 6 - c, 0.5, 1.0, events.WORSE, (0.0,))
        money = mixture.step(money, factors, mixture.prior(len(events.WORSE), events.IDLE))
        peak = np.maximum(peak, mixture.log_total(money)[:, 0])
    assert (peak >= math.log(100)).mean() > 0.05


@pytest.mark.parametrize(("ratio", "share"), [(1.5, 0.5), (2, 0.5), (5, 0.1), (10, 0.01)])
def test_detection_takes_at_most_half_again_what_an_oracle_needs(ratio, share):
    alpha, runs, rng = 0.002, 300, np.random.default_rng(5)
    p, q = coin(ratio, share), coin(1.0, share)
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    oracle = math.log(1 / alpha) / divergence
    money = wealth.begin(0.0, runs).harm_KJ
    needed = np.full(runs, np.nan)
    for index in range(int(6 * oracle)):
        c = rng.binomial(1, p, runs)
        factors = events.log_factors(c, 1 - c, share, 1.0, events.WORSE, (0.0,))
        money = mixture.step(money, factors, mixture.prior(len(events.WORSE), events.IDLE))
        crossed = np.isnan(needed) & (mixture.log_total(money)[:, 0] >= math.log(1 / alpha))
        needed[crossed] = index + 1
    assert np.isfinite(needed).all()
    assert needed.mean() <= 1.5 * oracle
