"""Robust numerics against NumPy and SciPy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ci_tools.gates import series, specimen


@pytest.mark.parametrize("width", [1, 4, 7])
def test_rolling_median_equals_numpys_over_each_window(width):
    x = np.random.default_rng(0).normal(size=50)
    x[[3, 20, 21, 22, 23, 24, 25, 26]] = np.nan
    x[7] = np.inf
    for i, found in enumerate(series.rolling_median(x, width)):
        seen = x[max(0, i - width + 1) : i + 1]
        seen = seen[np.isfinite(seen)]
        assert np.isnan(found) if not len(seen) else found == pytest.approx(np.median(seen), rel=1e-15)


def test_rolling_median_of_a_long_series_has_no_seams():
    x = np.random.default_rng(1).normal(size=9000)
    expected = [np.median(x[i - 4 : i + 1]) for i in range(4, len(x))]
    np.testing.assert_allclose(series.rolling_median(x, 5)[4:], expected, rtol=1e-15)


def test_spread_is_scipys_normalised_median_deviation():
    x = np.random.default_rng(2).normal(3, 2, 5000)
    expected = stats.median_abs_deviation(x, scale="normal")
    assert series.spread(np.append(x, np.nan)) == pytest.approx(expected, rel=1e-4)


def test_step_noise_is_that_about_the_trend_of_the_steps_before():
    rng = np.random.default_rng(3)
    x = np.linspace(100, 0, 4000) + rng.normal(0, 1, 4000) * np.where(np.arange(4000) < 2000, 0.5, 5.0)
    found = series.step_noise(x, 1000)
    assert found[1999] == pytest.approx(0.5, rel=0.1)
    assert found[3999] == pytest.approx(5.0, rel=0.1)


def test_logarithm_of_what_has_none_is_nan():
    found = series.log10(np.array([100.0, 0.0, -1.0, np.inf, np.nan]))
    np.testing.assert_array_equal(found, [2.0, np.nan, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("x", [[], [np.nan, np.nan], [np.inf]])
def test_nothing_finite_gives_nan_without_a_warning(x):
    x = np.array(x)
    assert np.isnan([series.median(x), series.spread(x)]).all()
    assert np.isnan(series.rolling_median(x, 3)).all()
    assert np.isnan(series.step_noise(x, 3)).all()


def test_window_scales_with_the_run_within_bounds():
    assert [series.window(steps) for steps in (1, 150, 400, 10**6)] == [5, 7, 20, 100]


def test_null_loss_falls_back_on_the_first_steps():
    run = specimen.clean(1)
    assert series.null_loss(run) == specimen.NULL
    assert series.null_loss(replace(run, null_loss=float("nan"))) == pytest.approx(specimen.NULL, rel=0.2)


def test_explained_share_of_a_clean_run_is_what_its_formula_says():
    assert series.explained(specimen.clean(1)) == pytest.approx(0.8, abs=0.02)
