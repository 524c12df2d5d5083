from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from ci_tools.errors import DataError
from ci_tools.gates import Outcome, neighbours, telling
from ci_tools.gates.leakage import Rows, Splits, data_leakage, splits_of
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.run import open_run
from model.data import prepare
from model.params import Data, Simulated


def source(rows, seed=0, width=8):
    """Correlated features, one of them with gaps, and a label that several of them tell a little about."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 4)) @ rng.standard_normal((4, width)) + 0.3 * rng.standard_normal((rows, width))
    y = (x[:, :3].sum(axis=1) + 3 * rng.standard_normal(rows) > 0).astype(float)
    x[rng.random(rows) < 0.1, -1] = np.nan
    return x, y, rng.integers(0, 5, (rows, 2))


def halves(x, y, codes=None, split=1200, **more):
    """Train rows first, then test rows; `more` are further arrays over all rows."""
    sides = (slice(None, split), slice(split, None))
    train, test = (
        Rows(
            numeric_NF=x[side],
            label_N=y[side],
            categorical_NC=None if codes is None else codes[side],
            **{name: values[side] for name, values in more.items()},
        )
        for side in sides
    )
    return Splits(train=train, test=test)


def judged(splits):
    measured = data_leakage(splits)
    assert not measured.error
    return Judge(Policy(), None, "", 0).verdict(measured)


def leaked(share, noise=0.0, seed=0):
    """Splits in which that share of the test rows was copied into train, with noise in units of the column's spread."""
    x, y, codes = source(1600, seed)
    taken = 1200 + np.random.default_rng(seed).choice(400, int(share * 400), replace=False)
    jitter = noise * np.nanstd(x, axis=0) * np.random.default_rng(seed + 1).standard_normal((len(taken), x.shape[1]))
    order = np.r_[taken, np.arange(1600)]
    x = np.concatenate([x[taken] + jitter, x])
    return halves(x, y[order], codes[order], split=1200 + len(taken))


@pytest.mark.parametrize("seed", range(5))
def test_separate_rows_of_one_source_pass(seed):
    verdict = judged(halves(*source(1600, seed)))
    assert verdict.outcome is Outcome.PASSED
    assert "no sign of leakage" in verdict.diagnosis


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
def test_copied_test_rows_are_counted(share):
    verdict = judged(leaked(share))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.statistic == pytest.approx(share / 0.01)
    assert verdict.diagnosis.startswith(f"{400 * share:.0f} of 400 test rows equal a train row")


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.03])
def test_copies_with_noise_are_counted(noise):
    verdict = judged(leaked(0.1, noise))
    assert verdict.outcome is Outcome.FAILED
    assert "near_copies" in verdict.evidence
    assert verdict.statistic == pytest.approx(10, abs=1.5)


def test_copies_with_noise_are_counted_where_train_repeats_its_rows():
    splits = leaked(0.1, 0.01)
    twice = np.tile(np.arange(len(splits.train.label_N)), 2)
    train = Rows(
        numeric_NF=splits.train.numeric_NF[twice],
        label_N=splits.train.label_N[twice],
        categorical_NC=splits.train.codes[twice],
    )
    verdict = judged(Splits(train=train, test=splits.test))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.diagnosis.startswith("4")


def test_three_copies_in_a_hundred_rows_decide_nothing_but_hide_nothing_either():
    x, y, codes = source(500)
    x[:3], codes[:3] = x[400:403], codes[400:403]
    entity = np.arange(500)
    verdict = judged(halves(x, y, codes, split=400, entity_N=entity))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.interval == (0.0, pytest.approx(3.0))
    entity[498:] = (0, 1)
    verdict = judged(halves(x, y, codes, split=400, entity_N=entity))
    assert verdict.outcome is Outcome.FAILED
    assert "entity" in verdict.diagnosis


def test_copies_differ_if_only_a_category_does():
    splits = leaked(0.1)
    train = splits.train
    other = Rows(numeric_NF=train.numeric_NF, label_N=train.label_N, categorical_NC=train.codes + np.array([0, 7]))
    assert not np.intersect1d(other.hashes(), splits.test.hashes()).size
    assert len(np.intersect1d(train.hashes(), splits.test.hashes())) == 40


def test_hashes_follow_equality_in_single_precision():
    x = np.array([[0.0, np.nan], [-0.0, -np.nan], [1.0, 2.0], [2.0, 1.0], [1.0 + 1e-12, 2.0]])
    a, b, c, d, e = Rows(numeric_NF=x, label_N=np.zeros(5)).hashes()
    assert a == b
    assert c == e
    assert len({a, c, d}) == 3


@pytest.mark.parametrize("seed", range(5))
def test_natural_duplicates_pass(seed):
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.0, (1600, 4)).astype(float)
    y = (x.sum(axis=1) + 2 * rng.standard_normal(1600) > 4).astype(float)
    splits = halves(x, y)
    assert np.isin(splits.test.hashes(), splits.train.hashes()).mean() > 0.5
    assert judged(splits).outcome is Outcome.PASSED


@pytest.mark.parametrize("seed", range(5))
def test_natural_near_duplicates_pass(seed):
    rng = np.random.default_rng(seed)
    center, member = rng.standard_normal((300, 8)), rng.integers(0, 300, 1600)
    x = center[member] + 0.01 * rng.standard_normal((1600, 8))
    y = (x[:, :4].sum(axis=1) + rng.standard_normal(1600) > 0).astype(float)
    assert judged(halves(x, y)).outcome is not Outcome.FAILED


@pytest.mark.parametrize("seed", range(5))
def test_test_rows_of_a_denser_region_pass(seed):
    x, y, codes = source(3000, seed)
    order = np.argsort((np.abs(x[:, 0]) < 0.5) + 0.8 * np.random.default_rng(seed).random(3000))
    assert judged(halves(x[order], y[order], codes[order], split=2400)).outcome is Outcome.PASSED


def test_entities_on_both_sides_are_counted():
    x, y, codes = source(1600)
    entity = np.arange(1600) // 4
    assert judged(halves(x, y, codes, entity_N=entity)).outcome is Outcome.PASSED
    entity[1200:1240] = np.arange(40)
    verdict = judged(halves(x, y, codes, entity_N=entity))
    assert verdict.outcome is Outcome.FAILED
    assert "40 of 400 test rows belong to an entity that has train rows" in verdict.diagnosis


def test_train_rows_from_the_time_of_the_test_are_counted():
    x, y, codes = source(1600)
    time = np.arange(1600.0)
    assert judged(halves(x, y, codes, time_N=time)).outcome is Outcome.PASSED
    time[0] = 1600.0  # one straggler is no overlap
    assert judged(halves(x, y, codes, time_N=time)).outcome is Outcome.PASSED
    time[:60] = np.linspace(1200, 1599, 60)
    verdict = judged(halves(x, y, codes, time_N=time))
    assert verdict.outcome is Outcome.FAILED
    assert "5.00% of the train rows do not come before the first test row" in verdict.diagnosis


@pytest.mark.parametrize("kind", ["two classes", "ten classes", "quantity", "category", "gaps", "twice"])
def test_column_that_tells_the_label_is_named(kind):
    x, y, codes = source(1600)
    rng, names = np.random.default_rng(7), (*(f"f{i}" for i in range(8)), "c0", "c1")
    expected = "f2"
    if kind == "ten classes":
        y = rng.integers(0, 10, 1600).astype(float)
        x[:, 2] = y + 0.1 * rng.standard_normal(1600)
    elif kind == "quantity":
        y = np.nansum(x, axis=1) + 5 * rng.standard_normal(1600)
        x[:, 2] = y + 0.05 * y.std() * rng.standard_normal(1600)
    elif kind == "category":
        codes[:, 1], expected = 2 * y + rng.integers(0, 2, 1600), "c1"
    elif kind == "gaps":
        x[:, 2] = np.where(y > 0, np.nan, x[:, 2])
    else:
        x[:, 2] = y + 0.1 * rng.standard_normal(1600)
        if kind == "twice":
            x[:, 3] = -x[:, 2]
            expected = "f"
    clean = halves(*source(1600))
    splits = halves(x, y, codes)
    verdict = judged(Splits(train=splits.train, test=splits.test, names=names))
    assert judged(clean).outcome is Outcome.PASSED
    assert verdict.outcome is Outcome.FAILED
    assert verdict.diagnosis.startswith(expected)
    assert "alone tells the label" in verdict.diagnosis


def test_column_that_tells_one_class_of_many_passes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 1600).astype(float)
    x = rng.standard_normal((1600, 6))
    x[:, 0] += 20 * (y == 0)
    assert judged(halves(x, y)).outcome is Outcome.PASSED


@pytest.mark.parametrize("noises", [(0.4,), (0.28, 0.28)])
def test_column_that_tells_much_or_no_more_than_another_passes(noises):
    x, y, codes = source(1600)
    for place, noise in enumerate(noises):
        x[:, place] = y + noise * np.random.default_rng(place).standard_normal(1600)
    splits = halves(x, y, codes)
    found = telling.best(splits.train.numeric_NF, splits.train.codes, splits.train.label_N)
    assert found.skill == pytest.approx(stats.norm.cdf(1 / noises[0] / 2**0.5), abs=0.01)
    assert judged(splits).outcome is Outcome.PASSED


def test_column_of_noise_tells_no_class():
    rng = np.random.default_rng(0)
    x, codes = rng.standard_normal((2000, 3)), rng.integers(0, 500, (2000, 1))
    for classes in (2, 4):
        assert telling.best(x, codes, rng.integers(0, classes, 2000)).skill == pytest.approx(0.5, abs=0.04)


def test_score_without_the_suspect_rows_is_evidence():
    splits = leaked(0.3)
    rng, label = np.random.default_rng(3), splits.test.label_N
    known = np.isin(splits.test.hashes(), splits.train.hashes())
    score = np.where(known, label, 0.4 * label + rng.standard_normal(400))
    verdict = judged(Splits(train=splits.train, test=splits.test, score_N=score))
    suspects = verdict.evidence["suspects"]
    assert suspects["test_rows"] == known.sum()
    assert suspects["skill"] == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert suspects["skill_without"] == pytest.approx(roc_auc_score(label[~known], score[~known]), abs=1e-12)
    assert suspects["skill"] > suspects["skill_without"] + 0.03


def test_few_rows_are_inconclusive():
    assert judged(halves(*source(60), split=30)).outcome is Outcome.INCONCLUSIVE


def test_images_without_categories_and_wide_rows_are_read():
    rng = np.random.default_rng(0)
    x, y = rng.random((500, 300)), rng.integers(0, 3, 500)
    assert judged(halves(x, y, split=400)).outcome is Outcome.PASSED
    x[:50] = x[400:450] + 1e-3
    verdict = judged(halves(x, y, split=400))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.diagnosis.startswith("50 of 100 test rows have a train row at less than")


@pytest.mark.parametrize("x", [np.full((200, 3), np.nan), np.ones((200, 3)), np.full((200, 3), np.inf)])
def test_columns_without_content_do_not_fail_the_gate(x):
    y = np.arange(200) % 2
    assert judged(halves(x, y, split=100)).outcome in (Outcome.PASSED, Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: Rows(numeric_NF=x[:, 0], label_N=y),
        lambda x, y: Rows(numeric_NF=x[:-1], label_N=y),
        lambda x, y: Rows(numeric_NF=x, label_N=y * np.nan),
        lambda x, y: Rows(numeric_NF=x, label_N=y, time_N=y[:5]),
        lambda x, y: Splits(train=Rows(numeric_NF=x, label_N=y), test=Rows(numeric_NF=x[:, 1:], label_N=y)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(make):
    x, y, _ = source(100)
    with pytest.raises(DataError):
        make(x, y)


def test_the_simulated_source_does_not_leak(tmp_path):
    small = Simulated(transactions=20_000, customers=400, terminals=200, days=60)
    prepare(Data(source="simulated", simulated=small), tmp_path / "data")
    splits = splits_of(open_run([1], tmp_path))
    assert splits.names[0] == "amount"
    assert splits.test.time_N is not None
    assert judged(splits).outcome is Outcome.PASSED


@pytest.mark.parametrize("width", [3, 20])
def test_nearest_rows_equal_brute_force(width):
    rng = np.random.default_rng(0)
    rows, queries = rng.standard_normal((10_000, width)), rng.standard_normal((50, width))
    own = np.arange(0, 5000, 100)
    distance, from_rows = cdist(queries, rows, "sqeuclidean"), cdist(rows[own], rows, "sqeuclidean")
    from_rows[np.arange(50), own] = np.inf
    parts = np.linspace(0, 10_000, 9).astype(int)
    for found, expected in (
        (neighbours.nearest_squares(queries, rows), distance),
        (neighbours.nearest_squares(rows[own], rows, own), from_rows),
    ):
        brute = np.stack([expected[:, a:b].min(axis=1) for a, b in pairwise(parts)], axis=1)
        np.testing.assert_allclose(found, brute, rtol=1e-4, atol=1e-6)


def test_points_depend_neither_on_units_nor_on_infinities():
    x, _, codes = source(300)
    other = x * np.geomspace(1e-3, 1e6, 8) + 7
    (points,), (same,) = neighbours.embed((x,), (codes,)), neighbours.embed((other,), (codes,))
    np.testing.assert_allclose(points, same, atol=1e-8)
    x[:5, 0] = np.inf
    assert np.isfinite(neighbours.embed((x,), (codes,))[0]).all()


def test_isolation_does_not_depend_on_the_density():
    rng = np.random.default_rng(0)
    dense, sparse = (neighbours.isolation(s * rng.random((1000, 3)), s * rng.random((4000, 3))) for s in (0.01, 10))
    assert stats.ks_2samp(dense, sparse).pvalue > 0.01


def test_auc_equals_scikit_learns_with_ties_and_spearman_scipys():
    rng = np.random.default_rng(0)
    x, label = rng.integers(0, 12, 500).astype(float), rng.random(500) < 0.2
    assert telling.auc(telling.ranks(x), label) == pytest.approx(roc_auc_score(label, x), abs=1e-12)
    np.testing.assert_allclose(telling.ranks(x), stats.rankdata(x))
    y = x + rng.standard_normal(500)
    rho = telling.correlation(telling.ranks(x), telling.ranks(y))
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert telling.correlation(np.ones(500), y) == 0


def test_best_column_has_the_skill_that_scikit_learn_gives_it():
    x, y, codes = source(1600)
    found = telling.best(x, codes, y)
    filled = np.where(np.isnan(x), -1e9, x)
    skill = sorted((abs(roc_auc_score(y, column) - 0.5) + 0.5 for column in filled.T), reverse=True)
    assert (found.skill, found.second) == pytest.approx(tuple(skill[:2]), abs=1e-12)
    quantity = np.nansum(x, axis=1) + 0.5
    rho = sorted((abs(stats.spearmanr(column, quantity).statistic) for column in filled.T), reverse=True)
    assert telling.best(x, codes, quantity).skill == pytest.approx(rho[0], abs=1e-12)
