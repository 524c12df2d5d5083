"""Every statistic against SciPy, brute force or simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from ci_tools.gates import statistics
from ci_tools.gates.statistics import difference, holm, looks, mean, sign_test, tail_of_look, wilson

VALUES = np.array([0.71, 0.74, 0.69, 0.75, 0.72])
OTHERS = np.array([0.70, 0.78, 0.66, 0.69, 0.73, 0.74, 0.71])


def unknown_rows(values):
    return np.zeros((len(values), 0))


def crossed(rng, seeds=5, rows=60, seed_sd=0.3, row_sd=0.3, cell_sd=1.0):
    """Values of a metric that is a mean over rows: [K] and their derivatives [K, N]; the truth is 0."""
    cells = (
        seed_sd * rng.standard_normal((seeds, 1))
        + row_sd * rng.standard_normal((1, rows))
        + cell_sd * rng.standard_normal((seeds, rows))
    )
    values = cells.mean(axis=1)
    return values, (cells - values[:, None]) / rows


def test_mean_over_seeds_has_scipys_t_interval():
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert mean(VALUES, unknown_rows(VALUES)).interval(0.025) == pytest.approx(expected, rel=1e-10)


def test_difference_of_unrelated_seeds_has_scipys_welch_interval():
    expected = stats.ttest_ind(VALUES, OTHERS, equal_var=False).confidence_interval(0.9)
    found = difference(VALUES, OTHERS, unknown_rows(VALUES), unknown_rows(OTHERS))
    assert found.interval(0.05) == pytest.approx(expected, rel=1e-10)
    assert found.seeds == 5


def test_one_sided_p_value_is_scipys():
    expected = stats.ttest_1samp(VALUES, 0.70, alternative="greater").pvalue
    assert mean(VALUES, unknown_rows(VALUES)).chance_above(0.70) == pytest.approx(expected, rel=1e-10)


def test_p_value_without_any_noise_is_all_or_nothing():
    exact = mean(np.full(3, 0.5), unknown_rows(range(3)))
    assert (exact.chance_above(0.4), exact.chance_above(0.5)) == (0.0, 1.0)


def test_row_variance_is_the_row_component_of_a_two_way_analysis_of_variance():
    values, derivatives = crossed(np.random.default_rng(0), row_sd=1.0)
    seeds, rows = derivatives.shape
    cells = derivatives * rows
    between = seeds * np.square(cells.mean(axis=0)).sum() / (rows - 1)
    residual = np.square(cells - cells.mean(axis=0)).sum() / ((rows - 1) * (seeds - 1))
    expected = (between - residual) / seeds / rows * (rows - 1) / rows  # the jackknife divides by N, not N - 1
    assert mean(values, derivatives).row_variance == pytest.approx(expected, rel=1e-10)


def test_interval_covers_the_truth_as_often_as_it_says_when_seeds_and_rows_both_vary():
    rng = np.random.default_rng(0)
    found = [mean(*crossed(rng)) for _ in range(4_000)]
    covered = np.mean([low <= 0 <= high for low, high in (one.interval(0.025) for one in found)])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_seeds_alone_would_cover_too_rarely():
    rng = np.random.default_rng(0)
    found = [mean(values, unknown_rows(values)) for values, _ in (crossed(rng, row_sd=4.0) for _ in range(1_000))]
    assert np.mean([low <= 0 <= high for low, high in (one.interval(0.025) for one in found)]) < 0.8


def test_noise_of_single_cells_is_not_counted_twice():
    rng = np.random.default_rng(1)
    found = [mean(*crossed(rng, row_sd=0.0)) for _ in range(2_000)]
    true = 0.3**2 / 5 + 1 / (5 * 60)
    assert np.mean([one.error**2 for one in found]) == pytest.approx(true, rel=0.08)


def test_difference_counts_rows_that_both_arms_share_once():
    rng = np.random.default_rng(2)
    errors, values = [], []
    for _ in range(3_000):
        shared = 2.0 * rng.standard_normal((1, 80))  # easy and hard rows, the same for both arms
        cells = [shared + 0.2 * rng.standard_normal((k, 1)) + rng.standard_normal((k, 80)) for k in (4, 6)]
        means = [one.mean(axis=1) for one in cells]
        found = difference(*means, *((one - level[:, None]) / 80 for one, level in zip(cells, means, strict=True)))
        errors.append(found.error**2)
        values.append(found.value)
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.12)


def test_one_seed_knows_the_noise_of_its_rows_only():
    values, derivatives = crossed(np.random.default_rng(0), seeds=1)
    found = mean(values, derivatives)
    assert found.seed_variance == 0
    assert found.interval(0.025)[1] - found.value == pytest.approx(
        stats.norm.ppf(0.975) * np.linalg.norm(derivatives), rel=1e-10
    )


@pytest.mark.parametrize(("worse", "better"), [(5, 0), (4, 1), (0, 5), (7, 3), (0, 0)])
def test_sign_test_is_the_exact_binomial_one(worse, better):
    n = worse + better
    expected = stats.binomtest(worse, n, alternative="greater").pvalue if n else 1.0
    assert sign_test(worse, better) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (7, 400)])
def test_wilson_interval_is_scipys(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx(tuple(expected), abs=1e-12)


def test_a_share_that_is_all_or_none_has_an_exact_end():
    assert wilson(0, 400)[0] == 0.0
    assert wilson(400, 400)[1] == 1.0


def test_a_share_of_nothing_may_be_anything():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_all_intersections(seed):
    p_values = np.random.default_rng(seed).random(5) ** 3
    expected = [
        max(
            min(len(others) * min(p_values[i] for i in others), 1.0)
            for size in range(1, 6)
            for others in itertools.combinations(range(5), size)
            if index in others
        )
        for index in range(5)
    ]
    assert holm(list(p_values)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(5, 10, (5, 10)), (5, 40, (5, 10, 20, 40)), (5, 5, (5,)), (5, 7, (5, 7)), (2, 3, (2, 3))],
)
def test_looks_go_from_the_first_to_the_most_seeds_and_about_double(first, last, expected):
    assert looks(first, last) == expected


@pytest.mark.parametrize("plan", [(5,), (5, 10), (5, 10, 20, 40)])
def test_the_looks_share_the_error_of_one_interval(plan):
    parts = [tail_of_look(seeds, plan, 0.95) for seeds in plan]
    assert sum(parts) == pytest.approx(0.025)
    assert parts == sorted(parts)
    assert tail_of_look(3, plan, 0.95) == parts[0]
    assert tail_of_look(99, plan, 0.95) == parts[-1]


def looked_at(draw, truth, plan=(5, 10), margin=1.0, sd=0.8):
    """What the last look that was needed says of a loss of `truth`: fail, pass or neither."""
    values = truth + sd * draw.standard_normal(plan[-1])
    for seeds in plan:
        found = mean(values[:seeds], unknown_rows(values[:seeds]))
        low, high = found.interval(tail_of_look(seeds, plan, 0.95))
        if low > margin or high <= margin:
            return "fail" if low > margin else "pass"
    return "neither"


def test_a_loss_of_just_the_margin_is_misjudged_as_rarely_as_stated_after_all_looks():
    draw = np.random.default_rng(0)
    ends = [looked_at(draw, truth=1.0) for _ in range(6_000)]
    for wrong in ("fail", "pass"):
        assert 0.015 < ends.count(wrong) / len(ends) < 0.030


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_detectable_loss_is_detected_with_the_stated_power(seeds):
    draw, margin, tail = np.random.default_rng(0), 1.0, 0.025
    truth = mean(np.array([-1, 1] * (seeds // 2) + [0] * (seeds % 2), float), unknown_rows(range(seeds)))
    spread = np.sqrt(truth.seed_variance * seeds)
    detectable = truth.detectable(margin, tail)
    runs = detectable + spread * draw.standard_normal((4_000, seeds))
    failed = np.mean([mean(run, unknown_rows(run)).interval(tail)[0] > margin for run in runs])
    assert failed == pytest.approx(statistics.POWER, abs=0.06)


def test_more_seeds_have_the_interval_of_the_same_spread_over_as_many_values():
    found = mean(VALUES, unknown_rows(VALUES)).with_seeds(9)
    expected = stats.t.ppf(0.975, 8) * VALUES.std(ddof=1) / 3
    assert found.reach(0.025) == pytest.approx(expected, rel=1e-10)


def test_needed_seeds_resolve_the_margin_and_fewer_do_not():
    found = mean(np.array([-0.5, 0.1, 0.4, 0.0, 0.3]), unknown_rows(VALUES))
    needed = found.seeds_needed(0.2, 0.025)
    assert found.with_seeds(needed).detectable(0.2, 0.025) <= 0.4 < found.with_seeds(needed - 1).detectable(0.2, 0.025)


def test_no_number_of_seeds_makes_up_for_too_few_rows():
    values, derivatives = crossed(np.random.default_rng(0), row_sd=5.0)
    assert mean(values, derivatives).seeds_needed(0.2, 0.025) is None
