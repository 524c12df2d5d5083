import json

import numpy as np
import pytest
from scipy import stats

from ci_tools.gates import Baseline, Outcome
from ci_tools.gates.columns import pairs
from ci_tools.gates.counts import upper_tail
from ci_tools.gates.data import drift, missing_values, ranges, schema_changed, share_interval, stability_index
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.run import open_run
from model.data import prepare
from model.params import Data, Table

GATES = (schema_changed, ranges, missing_values, drift)
ALONE = Baseline(None, "there is no base revision")


def table(rows=4000, seed=0):
    """Columns of a small source; a test changes some of them."""
    rng = np.random.default_rng(seed)
    return {
        "amount": rng.lognormal(3, 1, rows).round(2),
        "age": rng.normal(40, 8, rows).round(3),
        "city": rng.choice(["Oslo", "Bern", "Rome", "Nuuk"], rows, p=[0.5, 0.3, 0.199, 0.001]),
        "label": np.where(rng.random(rows) < 0.3, "yes", "no"),
    }


@pytest.fixture
def run(tmp_path):
    """A run whose data stage read these columns; None and NaN stand for a missing value."""

    def run(name, columns, **options):
        lines = [",".join(columns)]
        lines += [
            ",".join("" if value in (None, "nan") else str(value) for value in row)
            for row in zip(*(np.asarray(column).astype(str).tolist() for column in columns.values()), strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        source = Table(path=str(tmp_path / f"{name}.csv"), positive="yes", **options)
        prepare(Data(source="table", table=source), tmp_path / name / "data")
        return open_run([1], tmp_path / name)

    return run


@pytest.fixture
def verdicts(run):
    """Outcome and measurement of each gate for these columns against those of `table`."""

    def verdicts(columns, **options):
        new, base = run("new", columns, **options), Baseline(run("base", table()))
        judge = Judge(Policy(), None, "", 0)
        measured = {gate.name: gate(new, base) for gate in GATES}
        assert not any(one.error for one in measured.values())
        return {name: str(judge.verdict(one).outcome) for name, one in measured.items()}, measured

    return verdicts


def test_unchanged_data_passes_exactly(verdicts):
    outcomes, measured = verdicts(table())
    assert set(outcomes.values()) == {"passed"}
    assert {one.reading.statistic for one in measured.values()} == {0.0}


def test_another_sample_of_the_same_source_passes(verdicts):
    outcomes, _ = verdicts(table(seed=1))
    assert set(outcomes.values()) == {"passed"}


def test_shifted_column_is_drift_in_the_baselines_bins(verdicts):
    columns = table(seed=1)
    columns["age"] = columns["age"] + 8  # one standard deviation: the PSI of two such normals is 1
    outcomes, measured = verdicts(columns)
    assert outcomes["drift"] == "failed"
    assert outcomes["missing_values"] == outcomes["schema_changed"] == "passed"
    reading = measured["drift"].reading
    assert reading.evidence["columns"][0]["column"] == "age"
    assert 0.7 < reading.statistic < 1.1  # bins see a little less than the whole
    assert "age" in reading.diagnosis


def test_drift_of_a_category_is_seen_whatever_its_rank_in_the_new_data(verdicts):
    columns = table(seed=1)
    columns["city"] = np.random.default_rng(5).choice(["Oslo", "Bern", "Rome"], 4000, p=[0.2, 0.3, 0.5])
    outcomes, measured = verdicts(columns)
    assert outcomes["drift"] == "failed"
    worst = measured["drift"].reading.evidence["columns"][0]
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.3, 0.199])
    assert worst["column"] == "city"
    assert worst["size"] == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=0.35)


def test_unseen_category_shows_as_drift_and_as_a_change_of_the_schema(verdicts):
    columns = table(seed=1)
    columns["city"] = np.where(np.arange(4000) % 4 == 0, "Lima", columns["city"])
    outcomes, measured = verdicts(columns)
    assert outcomes["schema_changed"] == outcomes["drift"] == "failed"
    assert "category Lima of city is new (2" in measured["schema_changed"].reading.diagnosis
    assert measured["drift"].reading.evidence["columns"][0]["other_categories"] > 0.2


def test_rare_category_may_come_and_go(verdicts):
    columns = table(seed=1)
    columns["city"] = np.where(columns["city"] == "Nuuk", "Lima", columns["city"])
    outcomes, _ = verdicts(columns)
    assert outcomes["schema_changed"] == "passed"


def test_columns_added_removed_and_retyped_are_named(verdicts):
    columns = table(seed=1)
    columns["income"] = columns.pop("amount")
    columns["age"] = np.where(columns["age"] > 40, "old", "young")
    outcomes, measured = verdicts(columns)
    assert outcomes["schema_changed"] == "failed"
    changes = measured["schema_changed"].reading.evidence["changes"]
    assert {"amount was removed", "income was added", "type of age: numeric → categorical"} <= set(changes)


def test_other_unit_and_other_label_change_the_schema(run):
    base, new = run("base", table()), run("new", table())
    path = new.root / "data/schema.json"
    schema = json.loads(path.read_text())
    schema["numeric"][0]["unit"] = "EUR"
    schema["label"]["positive"] = "1"
    path.write_text(json.dumps(schema))
    changes = schema_changed(new, Baseline(base)).reading.evidence["changes"]
    assert changes == ["unit of amount: none → EUR", "classes of the label: yes and no → 1 and no"]


def test_missing_values_that_come_and_that_go_are_seen(run):
    judge, rng = Judge(Policy(), None, "", 0), np.random.default_rng(3)
    whole, holes = table(), table(seed=1)
    holes["age"] = np.where(rng.random(4000) < 0.15, np.nan, holes["age"])
    whole, holes = run("whole", whole), run("holes", holes)
    for new, old in ((holes, whole), (whole, holes)):
        measured = missing_values(new, Baseline(old))
        assert judge.verdict(measured).outcome is Outcome.FAILED
        assert measured.reading.statistic == pytest.approx(0.15, abs=0.03)
        assert measured.reading.diagnosis.startswith("age is missing in ")


def test_small_rise_of_missing_values_is_tolerated(verdicts):
    columns = table(seed=1)
    columns["age"] = np.where(np.arange(4000) % 50 == 0, np.nan, columns["age"])
    outcomes, _ = verdicts(columns)
    assert outcomes["missing_values"] == "passed"


def test_values_out_of_range_are_counted(verdicts):
    columns = table(seed=1)
    columns["age"] = np.where(np.arange(4000) % 20 == 0, -1.0, columns["age"])
    outcomes, measured = verdicts(columns)
    assert outcomes["ranges"] == "failed"
    worst = measured["ranges"].reading.evidence["columns"][0]
    assert (worst["column"], worst["lowest"]) == ("age", -1.0)
    assert measured["ranges"].reading.statistic == pytest.approx(0.05, abs=0.03)  # of the smallest split


def test_without_a_baseline_a_shift_over_time_is_inconclusive_at_worst(run):
    columns = table()
    columns["day"] = np.arange(4000) / 40
    columns["age"] = columns["age"] + columns["day"] / 2
    columns["amount"] = np.where((columns["day"] > 80) & (np.arange(4000) % 2 == 0), np.nan, columns["amount"])
    new, judge = run("new", columns, time="day"), Judge(Policy(), None, "", 0)
    for gate in (ranges, missing_values, drift):
        measured = gate(new, ALONE)
        assert measured.reading.statistic > gate.limit
        assert judge.verdict(measured).outcome is Outcome.INCONCLUSIVE
        assert "there is no base revision" in measured.reading.diagnosis
    assert judge.verdict(schema_changed(new, ALONE)).outcome is Outcome.INCONCLUSIVE


def test_without_a_baseline_stationary_data_passes(run):
    new, judge = run("new", table()), Judge(Policy(), None, "", 0)
    assert {judge.verdict(gate(new, ALONE)).outcome for gate in (ranges, missing_values, drift)} == {Outcome.PASSED}


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("profile.json", lambda text: text.replace('"edges"', '"limits"')),
        ("profile.json", lambda text: text.replace('"counts": [', '"counts": [7, ')),
        ("profile.json", lambda text: text[: len(text) // 2]),
        ("schema.json", lambda text: text.replace('"name"', '"nom"')),
    ],
)
def test_damaged_description_is_an_error_not_a_pass(run, name, break_it):
    new, base = run("new", table()), Baseline(run("base", table(seed=1)))
    path = new.root / "data" / name
    path.write_text(break_it(path.read_text()))
    errors = [gate(new, base).error for gate in GATES]
    assert any(name in error and "switchback reproduce" in error for error in errors)
    assert all(Judge(Policy(), None, "", 0).verdict(gate(new, base)).outcome is not Outcome.PASSED
               for gate, error in zip(GATES, errors, strict=True) if error)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_do_not_fail_for_leaving_the_range_of_few_others(run, seed):
    base, new = run("base", table(120, seed)), run("new", table(120, seed + 10))
    measured = ranges(new, Baseline(base))
    assert measured.reading.statistic > 0.01
    assert Judge(Policy(), None, "", 0).verdict(measured).outcome is Outcome.INCONCLUSIVE


def test_rows_are_counted_again_in_the_baselines_bins(run):
    first, second = table(), table(seed=1)
    first["age"], second["age"] = (np.repeat(np.round(x["age"] / 2, 0)[:800], 5) * 1.5 for x in (first, second))
    base, new = run("base", first), run("new", second)
    pair = pairs(new, Baseline(base))[0]
    found = {name: (old, counted) for name, old, counted in pair.columns()}
    old, counted = found["age"]
    values = new.split("train")["numeric"][:, [c["name"] for c in new.schema["numeric"]].index("age")]
    inside = np.digitize(values, old.bins, right=True)
    assert old.bins != tuple(new.profile["numeric"]["age"]["edges"])
    np.testing.assert_array_equal(counted.counts_B, np.bincount(inside, minlength=len(old.bins) + 1))


def test_no_common_column_is_inconclusive(run):
    new = run("new", {"x": np.arange(500) / 7, "label": table(500)["label"]})
    base = Baseline(run("base", {"y": np.arange(500) / 7, "label": table(500)["label"]}))
    judge = Judge(Policy(), None, "", 0)
    assert {judge.verdict(gate(new, base)).outcome for gate in (ranges, missing_values, drift)} == {
        Outcome.INCONCLUSIVE
    }


def test_stability_index_equals_scipys_symmetric_divergence_less_its_expectation():
    rng = np.random.default_rng(0)
    old, new = rng.integers(1, 500, 20), rng.integers(1, 500, 20)
    p, q = ((x + 0.5) / (x.sum() + 10) for x in (new, old))
    expected = stats.entropy(p, q) + stats.entropy(q, p) - 19 * (1 / old.sum() + 1 / new.sum())
    assert stability_index(old, new)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [300, 5000])
@pytest.mark.parametrize("drifted", [False, True])
def test_stability_index_is_unbiased_and_its_error_is_that_of_simulation(n, drifted):
    rng = np.random.default_rng(1)
    q = np.full(20, 1 / 20)
    p = np.linspace(0.5, 1.5, 20) / 20 if drifted else q
    found = np.array([stability_index(rng.multinomial(n, q), rng.multinomial(2 * n, p)) for _ in range(2000)])
    truth = ((p - q) * np.log(p / q)).sum()
    assert found[:, 0].mean() == pytest.approx(truth, abs=4 * found[:, 0].std() / 2000**0.5 + 0.06 * 20 * 1.5 / n)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.12)


def test_empty_bins_keep_the_index_finite():
    size, error = stability_index(np.array([500, 0, 0, 500]), np.array([0, 500, 0, 500]))
    assert 3 < size < 10
    assert np.isfinite(error)


def test_share_interval_covers_as_it_says():
    rng, z = np.random.default_rng(2), stats.norm.isf(0.025)
    for p, q, n, m in ((0.02, 0.02, 300, 300), (0.10, 0.25, 200, 400), (0.0, 0.05, 100, 400)):
        pairs = zip(rng.binomial(n, q, 3000).tolist(), rng.binomial(m, p, 3000).tolist(), strict=True)
        inside = [low <= abs(p - q) <= high
                  for a, b in pairs for low, high in [share_interval(a, n - a, b, m - b, z)]]  # fmt: skip
        assert np.mean(inside) > 0.93
    assert share_interval(3, 97, 3, 97, z) == (0.0, 0.0)


@pytest.mark.parametrize(("a", "b"), [(2, 500), (0.5, 400.5), (30.5, 70.5)])
@pytest.mark.parametrize("hits", [0, 1, 7, 60])
def test_upper_tail_equals_scipys_beta_binomial(a, b, hits):
    assert upper_tail(hits, 60, a, b) == pytest.approx(stats.betabinom.pmf(range(hits, 61), 60, a, b).sum(), rel=1e-9)


def test_rows_outside_the_range_of_others_follow_that_tail():
    rng = np.random.default_rng(4)
    old, new = rng.random((4000, 50)), rng.random((4000, 200))
    outside = ((new < old.min(axis=1)[:, None]) | (new > old.max(axis=1)[:, None])).sum(axis=1)
    for hits in (5, 15, 25):
        assert (outside >= hits).mean() == pytest.approx(upper_tail(hits, 200, 2, 49), abs=0.025)
