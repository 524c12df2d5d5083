"""Delayed labels."""

import math

import numpy as np
import pytest

from ci_tools.release.judge.labels import LabelState, add_losses, label_evidence
from ci_tools.release.judge.mean import FRACTIONS
from ci_tools.release.judge.policy import Labels
from tests.release.judge.cases import at_most

POLICY = Labels(tolerated=0.01, margin=0.04)


def losses(rng, n, mean):
    """Of two classifiers that differ on a tenth of the requests."""
    return rng.choice([-1.0, 0.0, 1.0], p=[0.05 - mean / 2, 0.9, 0.05 + mean / 2], size=n)


def test_capital_by_hand():
    state = add_losses(LabelState(), [1.0, -0.5], POLICY)
    for j, fraction in enumerate(FRACTIONS):
        bet = fraction / 1.01
        expected = math.log((1 + bet * 0.99) * (1 - bet * 0.51) / len(FRACTIONS))
        assert state.harm[j] == pytest.approx(expected, rel=1e-12)


def test_order_and_grouping_do_not_matter():
    d = losses(np.random.default_rng(24), 60, 0.03)
    whole = add_losses(LabelState(), d, POLICY)
    parts = LabelState()
    for part in np.array_split(d[::-1], 7):
        parts = add_losses(parts, part, POLICY)
    np.testing.assert_allclose(parts.harm, whole.harm, atol=1e-12)
    np.testing.assert_allclose(parts.safe, whole.safe, atol=1e-12)


@pytest.mark.parametrize(("mean", "field"), [(0.01, "harm"), (0.04, "safe")])
def test_budgets_hold_at_every_peek(mean, field):
    rng, runs, crossed = np.random.default_rng(25), 300, 0
    for _ in range(runs):
        state, peak = LabelState(), 0.0
        for part in losses(rng, (25, 40), mean):
            state = add_losses(state, part, POLICY)
            peak = max(peak, getattr(label_evidence(state), field))
        crossed += peak >= math.log(20)
    assert at_most(crossed, runs, 0.05)


@pytest.mark.parametrize(("mean", "field"), [(0.08, "harm"), (0.0, "safe")])
def test_evidence_comes(mean, field):
    state = add_losses(LabelState(), losses(np.random.default_rng(26), 4000, mean), POLICY)
    assert getattr(label_evidence(state), field) > math.log(1000)
