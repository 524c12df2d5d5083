"""The bench of the comparison with main: what it plants is real, and what it counts is what the gate said."""

from argparse import Namespace

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import against_main as bench
from benchmarks.harness import Result
from ci_tools.gates import Outcome

SEEDS = 24


@pytest.fixture(scope="module")
def population():
    return bench.simulate(4_000, seed=2)


@pytest.fixture(scope="module")
def clean(population):
    return bench.pool(SEEDS, population)


@pytest.fixture(autouse=True)
def _few_test_rows(monkeypatch):
    monkeypatch.setattr(bench, "TEST_ROWS", 1_500)


def test_training_finds_most_of_what_there_is_and_seeds_differ(clean, population):
    assert clean.quality > 4 * population.label_N.mean()
    assert 0 < clean.sd < 0.05
    assert len(np.unique(clean.score_SN[:, 0])) == SEEDS


def test_a_seed_trains_alike_alone_and_beside_others(clean, population):
    alone = bench.pool(3, population)
    np.testing.assert_allclose(alone.score_SN, clean.score_SN[:3], atol=1e-3)


def test_gradients_lower_the_loss_of_the_training_rows():
    rows = bench.simulate(1_000, seed=1)

    def loss(steps):
        w1, b1, w2, b2 = bench.train(rows, range(2), steps)
        logit = np.tanh(rows.x_NF @ w1 + b1) @ w2 + b2
        return float(np.mean(np.logaddexp(0, logit) - rows.label_N[:, None] * logit))

    assert loss(300) < 0.6 * loss(1)


@pytest.mark.parametrize("plant", ["flips", "blur"])
def test_planted_drops_are_about_as_large_as_wanted(plant, clean, population, monkeypatch):
    monkeypatch.setitem(bench.GRIDS, plant, bench.GRIDS[plant][::2])
    wanted = [0.03, 0.08]
    found = [clean.quality - arm.quality for arm in bench.dropped(plant, wanted, clean, population)]
    assert found == pytest.approx(wanted, rel=0.35)


def test_flipped_labels_of_a_small_share_are_among_those_of_a_large_one():
    rows = bench.simulate(2_000, seed=1)
    few, many = (bench.planted(rows, 3, flips=share).label_N != rows.label_N for share in (0.05, 0.2))
    assert few.mean() == pytest.approx(0.05, abs=0.02)
    assert not (few & ~many).any()


def ending(case, clean, population, margin):
    return bench.compare(case, clean, margin, np.random.default_rng(0), population)


def test_the_same_seeds_of_the_same_training_pass_at_the_first_look(clean, population):
    case = bench.Case("identical", clean, 3.0, True)
    assert ending(case, clean, population, 1e-6) == (Outcome.PASSED, 5)


def test_an_undecided_comparison_goes_on_to_all_its_seeds(clean, population):
    case = bench.Case("undecided", clean, 3.0, False)
    assert ending(case, clean, population, 1e-4) == (Outcome.INCONCLUSIVE, 10)


def test_a_large_drop_fails(clean, population):
    worse = bench.pool(SEEDS, population, flips=0.2)
    assert ending(bench.Case("drop", worse, 1.0, True), clean, population, 0.03).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("target", "flips", "missed"), [("few", 0.2, True), ("few", 0.0, False), ("most", 0.2, False), ("most", 0.0, True)]
)
def test_a_missed_target_is_reported_as_such(target, flips, missed, clean, population):
    result = Result(name="against_main", command="", settings={}, unit="seeds per arm", facts={"failed": []})
    arm = bench.pool(SEEDS, population, flips=flips)
    bench.measure(result, bench.Case("case", arm, 3.0, True, target), clean, 4, population)
    assert bool(result.facts["failed"]) is missed
    shares = [result.facts["case"][f"{outcome} share"] for outcome in ("passed", "inconclusive", "failed")]
    assert sum(shares) == pytest.approx(1)
    assert result.arms["case"]["n"] == 4


def test_both_targets_are_among_the_cases(clean, population, monkeypatch):
    monkeypatch.setattr(bench, "dropped", lambda plant, drops, clean, population: [clean for _ in drops])
    cases = bench.cases(clean, population)
    assert {case.target for case in cases} == {"few", "most", ""}
    assert len({case.name for case in cases}) == len(cases)
    assert {case.here is clean for case in cases if case.target == "few" and not case.same_seeds} == {True}


def test_the_command_knows_the_bench():
    options = command.parse(["against_main", "--quick", "--count", "7"])
    assert isinstance(options, Namespace)
    assert options.command == "python -m benchmarks against_main --quick --count 7"
