"""Score shift and decision flips."""

import math

import numpy as np
import pytest

from ci_tools.release.judge import scores
from ci_tools.release.judge.mean import FRACTIONS
from ci_tools.release.judge.observation import SCORE_BINS
from ci_tools.release.judge.policy import Flips, Shift
from ci_tools.release.judge.scores import FlipState, ShiftState
from tests.release.judge.cases import at_most

POLICY = Shift(tolerated=0.02, margin=0.06)


def histogram(values):
    bins, counts = np.unique(
        np.minimum((np.asarray(values) * SCORE_BINS).astype(int), SCORE_BINS - 1), return_counts=True
    )
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def play(rng, bins, shift, share=0.5, n=40):
    """Evidence after each bin; both arms' scores follow the hour, the canary's moved by `shift`."""
    state, found = ShiftState(), []
    for index in range(bins):
        shape = 2 + math.sin(index / 7)
        c = int(rng.binomial(n, share))
        canary = np.clip(rng.beta(shape, 10, c) + shift, 0, 1)
        state = scores.add_scores(state, histogram(canary), histogram(rng.beta(shape, 10, n - c)), share, POLICY)
        state = scores.centred(state)
        found.append(scores.shift_evidence(state))
    return state, found


def test_one_bin_by_hand():
    state = scores.add_scores(ShiftState(centre=0.25), {31: 1}, {0: 2}, 0.2, POLICY)
    z = np.array([(31.5 / 32 - 0.25) / 0.2, *[-(0.5 / 32 - 0.25) / 0.8] * 2])
    reach = max(0.25 / 0.2, 0.75 / 0.8) + 0.02
    for j, fraction in enumerate(FRACTIONS):
        expected = np.log1p(fraction / reach * (z - 0.02)).sum() - math.log(len(FRACTIONS))
        assert state.harm_up[j] == pytest.approx(expected, rel=1e-12)
    reach = max(0.75 / 0.2, 0.25 / 0.8) - 0.06
    for j, fraction in enumerate(FRACTIONS):
        expected = np.log1p(fraction / reach * (0.06 - z)).sum() - math.log(len(FRACTIONS))
        assert state.safe_up[j] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("shift", "share"), [(0.0, 0.5), (0.02, 0.5), (0.0, 0.05)])
def test_tolerated_shift_is_no_harm_at_any_time(shift, share):
    rng, runs = np.random.default_rng(20), 100
    peaks = [max(e.harm for e in play(rng, 40, shift, share)[1]) for _ in range(runs)]
    assert at_most(sum(peak >= math.log(20) for peak in peaks), runs, 0.05)


def test_large_shift_is_found():
    state, found = play(np.random.default_rng(21), 150, 0.1)
    assert found[-1].harm > math.log(500)
    assert found[-1].safe < 0
    low, high = scores.shift_interval(state, 0.05)
    assert 0.02 < low < 0.1 < high


def test_shift_down_is_found():
    state = ShiftState()
    for _ in range(100):
        state = scores.centred(scores.add_scores(state, {3: 20}, {9: 20}, 0.5, POLICY))
    assert scores.shift_evidence(state).harm > math.log(500)


def test_equal_scores_are_proven_to_be_within_the_margin():
    _, found = play(np.random.default_rng(22), 150, 0.0)
    assert found[-1].safe > math.log(20)


def test_shift_at_the_margin_is_hardly_ever_proven_safe():
    rng, runs = np.random.default_rng(23), 100
    peaks = [max(e.safe for e in play(rng, 40, 0.07)[1]) for _ in range(runs)]
    assert at_most(sum(peak >= math.log(20) for peak in peaks), runs, 0.05)


def test_flips():
    policy = Flips(tolerated=0.02, margin=0.05)
    assert scores.flip_evidence(FlipState(pairs=3000, flips=120), policy).harm > math.log(500)
    assert scores.flip_evidence(FlipState(pairs=3000, flips=30), policy).safe > math.log(20)
    assert scores.flip_evidence(FlipState(), policy) == pytest.approx((0, 0))


def test_shift_says_nothing_where_the_weights_are_not_believed():
    state = scores.add_scores(ShiftState(), {3: 900}, {9: 900}, 0.5, POLICY)
    assert scores.shift_evidence(state).harm > math.log(500)
    assert scores.shift_evidence(state, doubted=True).harm == -math.inf


def test_no_scores_change_nothing():
    assert scores.add_scores(ShiftState(), {}, {}, 0.5, POLICY) == ShiftState()
    assert scores.centred(ShiftState()) == ShiftState()
