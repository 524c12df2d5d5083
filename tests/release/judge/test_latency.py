"""Slow requests: bins, thresholds, and the coin that they make."""

import math

import numpy as np
import pytest

from ci_tools.release.judge import events, latency, mixture, wealth
from tests.release.judge.cases import at_most

THETAS = events.correlations(0.25)


def histogram(milliseconds):
    bins, counts = np.unique([latency.bin_of(x) for x in milliseconds], return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def test_a_latency_lies_in_its_bin():
    rng = np.random.default_rng(12)
    for x in [*np.exp(rng.uniform(-5, 12, 500)), 1.0, 2.0, 0.5, latency.edge(77), np.nextafter(latency.edge(77), 1e9)]:
        index = latency.bin_of(x)
        assert latency.edge(index - 1) < x <= latency.edge(index)


def test_bins_of_a_ratio_bracket_it():
    for ratio in (1.0, 1.05, 1.1, 1.25, 2.0, 7.3):
        width = latency.edge(1) / latency.edge(0)
        assert width ** latency.bins_down(ratio) <= ratio * (1 + 1e-9)
        assert width ** latency.bins_up(ratio) >= ratio * (1 - 1e-9)
    assert latency.bins_up(2.0) == latency.bins_down(2.0) == latency.BINS_PER_DOUBLING


@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_threshold_is_the_bin_of_the_empirical_quantile(quantile):
    values = np.exp(np.random.default_rng(13).normal(3, 0.5, 3000))
    expected = latency.bin_of(np.quantile(values, quantile, method="inverted_cdf"))
    assert latency.threshold(histogram(values), quantile) == expected


def test_threshold_is_unknown_until_enough_was_seen():
    assert latency.threshold({}, 0.5) is None
    assert latency.threshold({5: 199}, 0.95) is None
    assert latency.threshold({5: 200}, 0.95) == 5


def test_slower_counts_beyond_the_edge_and_ties_are_not_slow():
    values = [10.0, latency.edge(100), np.nextafter(latency.edge(100), 1e9), 500.0]
    assert latency.slower(histogram(values), 100) == sum(x > latency.edge(100) for x in values)


def test_reference_forgets_by_halving_and_stays_small():
    reference = {}
    for _ in range(100):
        reference = latency.remember(reference, {3: 900, 4: 101}, {9: 1})
    assert sum(reference.values()) <= latency.REMEMBERED
    assert reference[3] / sum(reference.values()) == pytest.approx(0.9, abs=0.01)
    assert latency.remember({}, {1: 2}, {1: 3, 2: 1}) == {1: 5, 2: 1}


def peaks(rng, runs, bins, canary_ms, shift_bins, quantile=0.95, load=lambda index: 1.0):
    """Largest log e-value of runs that compare lognormal latencies against the reference's quantile."""
    money = wealth.begin(THETAS[-1], runs).harm_KJ
    prior, peak, threshold = mixture.prior(len(events.WORSE), events.IDLE), np.zeros(runs), None
    reference = {}
    for index in range(bins):
        level = np.log(20 * load(index)) + 0.3 * rng.normal(size=(3, runs, 12))
        level[0] += math.log(canary_ms / 20)
        if threshold is not None:
            x = math.log(latency.edge(threshold))
            c = (level[0] > x + shift_bins * math.log(2) / latency.BINS_PER_DOUBLING).sum(axis=-1)
            b = (level[1] > x).sum(axis=-1)
            money = mixture.step(money, events.log_factors(c, b, 0.5, 1.0, events.WORSE, THETAS), prior)
            peak = np.maximum(peak, mixture.log_total(money).min(axis=-1))
        reference = latency.remember(reference, histogram(np.exp(level[2, :20].ravel())))
        threshold = latency.threshold(reference, quantile)
    return peak


@pytest.mark.parametrize(("canary_ms", "tolerated"), [(20.0, 0), (20 * 1.05, latency.bins_up(1.05))])
def test_load_that_slows_both_arms_raises_no_alarm(canary_ms, tolerated):
    def load(index):
        return 3.0 if index // 20 % 2 else 1.0

    peak = peaks(np.random.default_rng(14), 1000, 120, canary_ms, tolerated, load=load)
    for alpha in (0.1, 0.02):
        assert at_most((peak >= math.log(1 / alpha)).sum(), len(peak), alpha)


def test_slower_canary_is_found():
    peak = peaks(np.random.default_rng(15), 200, 400, 20 * 1.2, latency.bins_up(1.05))
    assert (peak >= math.log(500)).mean() > 0.9
