"""Scores wait for labels; each pair and each label counts once."""

import pytest

from ci_tools.release.controller.pairs import Pairs
from ci_tools.release.controller.predictions import Pair

ONE, TWO = Pair("q1", (0.2,), (0.7,)), Pair("q2", (0.9,), None)
ROWS = Pair("q3", (0.1, 0.9), (0.2, 0.8))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pairs.db"


def test_a_pair_is_new_once(path):
    pairs = Pairs(path)
    assert pairs.add([ONE, TWO], 1) == [ONE, TWO]
    assert pairs.add([ONE, ROWS], 1) == [ROWS]
    pairs.commit()
    pairs.close()
    assert Pairs(path).add([ONE, TWO, ROWS], 2) == []


def test_rows_without_a_valid_answer_are_the_canarys_alone(path):
    pairs = Pairs(path)
    pairs.add([ONE, TWO, ROWS, Pair("q4", None, None), Pair("q5", (0.1, 0.2), None)], 1)
    assert pairs.unanswered() == 3


def test_what_died_uncounted_is_new_again(path):
    pairs = Pairs(path)
    pairs.add([ONE], 1)
    pairs.commit()
    pairs.add([TWO], 2)
    pairs.label({"q1": 1.0})
    assert len(pairs.losses(2)) == 1
    pairs.commit()
    pairs.take_back(1)
    assert pairs.losses(2) == pytest.approx([(0.7 - 1) ** 2 - (0.2 - 1) ** 2])
    assert pairs.add([ONE, TWO], 2) == [TWO]
    assert pairs.add([ONE, TWO], 2) == []


def test_a_label_outlasts_the_death_of_its_pairs_count(path):
    pairs = Pairs(path)
    pairs.add([ONE], 1)
    assert pairs.label({"q1": 1.0}) == 1
    pairs.take_back(0)
    assert pairs.add([ONE], 1) == [ONE]
    assert len(pairs.losses(1)) == 1


def test_loss_is_the_squared_distance_and_no_answer_costs_one(path):
    pairs = Pairs(path)
    pairs.add([ONE, TWO], 1)
    assert pairs.label({"q1": 0.0, "q2": 1.0, "q9": 1.0}) == 2
    assert sorted(pairs.losses(1)) == pytest.approx([0.49 - 0.04, 1.0 - 0.01])
    assert pairs.losses(1) == ()


def test_the_first_label_of_a_request_counts(path):
    pairs = Pairs(path)
    pairs.add([ONE], 1)
    assert pairs.label({"q1": 1.0}) == pairs.label({"q1": 0.0}) == 1
    assert pairs.losses(1) == pytest.approx([0.09 - 0.64])
    assert pairs.label({"q1": 0.0}) == 1
    assert pairs.losses(1) == ()


def test_rows_of_a_request_are_labelled_by_number(path):
    pairs = Pairs(path)
    pairs.add([ROWS], 1)
    assert pairs.label({"q3": 1.0, "q3#0": 0.0, "q3#1": 1.0}) == 2
    assert sorted(pairs.losses(1)) == pytest.approx([0.03, 0.03])


def test_labels_outlast_a_death_and_clear_forgets_them(path):
    pairs = Pairs(path)
    pairs.add([ONE], 1)
    pairs.label({"q1": 1.0})
    pairs.close()
    again = Pairs(path)
    assert len(again.losses(1)) == 1
    again.clear()
    assert again.label({"q1": 1.0}) == 0
