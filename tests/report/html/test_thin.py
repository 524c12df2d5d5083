import base64

import numpy as np
import pytest

from ci_tools.report.html import thin


@pytest.mark.parametrize(("steps", "at_most"), [(0, 10), (1, 10), (10, 10), (11, 10), (20_000, 500), (7, 1)])
def test_buckets_cover_all_steps_and_are_no_more_than_asked(steps, at_most):
    into = thin.buckets(steps, at_most)
    assert into.count <= at_most
    assert into.width * into.count >= steps > into.width * (into.count - 1) or steps == into.count == 0


@pytest.mark.parametrize("seed", range(20))
def test_extremes_of_every_series_survive(seed):
    rng = np.random.default_rng(seed)
    steps = np.flatnonzero(rng.random(rng.integers(1, 3000)) < 0.7)
    values = rng.standard_cauchy(len(steps))
    into = thin.buckets(int(steps[-1]) + 1 if len(steps) else 1, 100)
    found = thin.envelope(steps, values, into)
    assert np.nanmax(found.high_B) == values.max()
    assert np.nanmin(found.low_B) == values.min()
    for bucket in range(into.count):
        inside = values[steps // into.width == bucket]
        expected = [inside.min(), inside.mean(), inside.max()] if len(inside) else [np.nan] * 3
        assert [found.low_B[bucket], found.mean_B[bucket], found.high_B[bucket]] == pytest.approx(expected, nan_ok=True)


def test_one_spike_among_twenty_thousand_steps_stays():
    values = np.ones(20_000)
    values[12_345] = 1e6
    assert np.nanmax(thin.envelope(np.arange(20_000), values, thin.buckets(20_000, 500)).high_B) == 1e6


def test_values_that_are_not_finite_mark_their_bucket_and_disturb_no_other():
    values = np.array([1.0, np.nan, 3.0, np.inf, 5.0, 6.0])
    found = thin.envelope(np.arange(6), values, thin.Buckets(2, 3))
    assert found.nonfinite_B.tolist() == [True, True, False]
    assert found.high_B.tolist() == [1.0, 3.0, 6.0]


def test_series_of_as_many_steps_as_points_does_not_change():
    values = np.random.default_rng(0).normal(size=50)
    found = thin.envelope(np.arange(50), values, thin.buckets(50, 100))
    assert found.low_B.tolist() == found.mean_B.tolist() == found.high_B.tolist() == values.tolist()


def test_smoothing_is_the_mean_around_each_step_and_leaves_gaps():
    values = np.array([1.0, 2.0, np.nan, 4.0, 9.0])
    assert thin.smooth(values, 3).tolist() == pytest.approx([1.0, 1.5, np.nan, 6.5, 6.5], nan_ok=True)
    assert thin.smooth(values[:2], 1).tolist() == [1.0, 2.0]


def test_smoothing_begins_where_the_series_begins():
    fall = 0.5 ** np.arange(40)
    assert thin.smooth(fall, 20)[0] == fall[0]
    assert thin.smooth(fall, 20)[1] == pytest.approx(fall[:3].mean())


def test_heat_map_keeps_the_largest_of_each_cell():
    values = np.array([[1.0, 5.0], [2.0, 4.0], [np.nan, 3.0], [0.0, 0.0]])
    found = thin.largest(np.array([0, 1, 2, 6]), values, thin.Buckets(2, 4))
    assert found[0].tolist() == [2.0, 5.0]
    assert found[1].tolist() == [np.inf, 3.0]
    assert np.isnan(found[2]).all()
    assert found[3].tolist() == [0.0, 0.0]


def test_codes_rise_with_the_value_and_name_what_is_no_number():
    values = np.sort(10 ** np.random.default_rng(0).uniform(-9, 2, 1000))
    codes = thin.coded(values, thin.scale(values))
    assert (np.diff(codes.astype(int)) >= 0).all()
    assert codes.min() == thin.LOWEST
    assert codes.max() == thin.HIGHEST
    others = thin.coded(np.array([np.nan, 0.0, np.inf, 1e-300]), thin.scale(values))
    assert others.tolist() == [thin.NOTHING, thin.ZERO, thin.NONFINITE, thin.LOWEST]


@pytest.mark.parametrize("values", [[], [0.0], [np.nan, np.inf], [1e-3], [1e-3, 1e-3]])
def test_scale_exists_for_any_values(values):
    on = thin.scale(np.array(values))
    assert on.high - on.low >= 1


def test_text_is_the_bytes_in_row_major_order():
    code = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert list(base64.b64decode(thin.text(code))) == [0, 3, 1, 4, 2, 5]


def test_rounding_keeps_significant_digits_and_has_no_value_that_json_lacks():
    assert thin.rounded(np.array([1.23456e-7, 98765.4321, np.nan, np.inf, 0.0])) == [
        1.235e-07,
        98770.0,
        None,
        None,
        0.0,
    ]
