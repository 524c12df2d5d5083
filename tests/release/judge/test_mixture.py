"""The mixture of bets: its sum, its law, and what switching is for."""

import numpy as np
import pytest
from scipy.special import logsumexp

from ci_tools.release.judge import mixture


def test_total_agrees_with_scipy_at_any_size():
    rng = np.random.default_rng(1)
    for scale in (1, 100, 10_000):
        wealth = rng.normal(size=(5, 3, 7)) * scale
        np.testing.assert_allclose(mixture.log_total(wealth), logsumexp(wealth, axis=-1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("first", [None, 0.05, 0.5])
def test_prior_sums_to_one(first):
    assert np.exp(mixture.prior(6, first)).sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("switch", [0, 0.001, 0.3])
def test_switching_moves_money_but_makes_none(switch):
    rng = np.random.default_rng(2)
    wealth, factor = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    after = mixture.step(wealth, factor, mixture.prior(6, 0.1), switch)
    np.testing.assert_allclose(mixture.log_total(after), logsumexp(wealth + factor, axis=-1), atol=1e-12)


def test_bet_that_lost_for_long_still_follows_a_change():
    prior = mixture.prior(2, 0.5)
    losing, winning = np.log([1.0, 0.5]), np.log([1.0, 1.9])
    wealth = dict.fromkeys((0, mixture.SWITCH), prior)
    for factor in [losing] * 200 + [winning] * 30:
        wealth = {switch: mixture.step(money, factor, prior, switch) for switch, money in wealth.items()}
    assert mixture.log_total(wealth[0]) < 0
    assert mixture.log_total(wealth[mixture.SWITCH]) > np.log(1000)


def test_bet_on_nothing_keeps_its_share_through_a_long_loss():
    prior = mixture.prior(2, 0.05)
    wealth = prior
    for _ in range(500):
        wealth = mixture.step(wealth, np.log([1.0, 0.01]), prior)
    assert mixture.log_total(wealth) > np.log(0.05) - 2 * 500 * mixture.SWITCH
