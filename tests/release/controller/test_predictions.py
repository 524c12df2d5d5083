"""Answers of the models are joined by request id, once each, across a restart."""

import json

import pytest

from ci_tools.release.controller.predictions import Pair, Predictions, chosen, is_flip
from ci_tools.release.home import Home

CHAMPION, CANARY = "aaa", "bbb"


def write(home, member, *lines):
    home.predictions(member).parent.mkdir(exist_ok=True)
    with home.predictions(member).open("a") as file:
        for id_, bundle, mirror, scores in lines:
            file.write(json.dumps({"id": id_, "t": 0.0, "bundle": bundle, "mirror": mirror, "scores": scores,
                                   "ms": 1.0}) + "\n")  # fmt: skip


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def predictions(home, positions=None):
    return Predictions(home, CHAMPION, CANARY, 10.0, positions or {})


@pytest.mark.parametrize("first", ["m1", "m2"])
def test_a_mirrored_request_is_a_pair_whoever_answers_first(home, first):
    lines = {"m1": ("q1", CHAMPION, False, [0.2]), "m2": ("q1", CANARY, True, [0.7])}
    reader = predictions(home)
    write(home, first, lines.pop(first))
    assert reader.read(0.0, ["m1", "m2"]) == []
    for member, line in lines.items():
        write(home, member, line)
    assert reader.read(1.0, ["m1", "m2"]) == [Pair("q1", (0.2,), (0.7,))]


def test_only_a_champions_answer_and_a_canarys_copy_are_a_pair(home):
    write(home, "m1", ("q1", CHAMPION, False, [0.2]), ("q2", CHAMPION, False, [0.2]), ("q3", "ccc", False, [0.1]))
    write(home, "m2", ("q1", CANARY, False, [0.7]), ("q3", CANARY, True, [0.7]), ("q4", CANARY, True, None))
    assert predictions(home).read(0.0, ["m1", "m2"]) == []


def test_answers_wait_for_a_while_only(home):
    reader = predictions(home)
    write(home, "m1", ("q1", CHAMPION, False, [0.2]))
    reader.read(0.0, ["m1"])
    reader.read(11.0, ["m1"])
    write(home, "m1", ("q1", CANARY, True, [0.7]))
    assert reader.read(11.1, ["m1"]) == []


def test_another_reader_finds_everything_that_waited(home):
    reader = predictions(home)
    write(home, "m1", ("q1", CHAMPION, False, [0.2]))
    reader.read(0.0, ["m1"])
    write(home, "m1", ("q2", CHAMPION, False, [0.3]))
    reader.read(8.0, ["m1"])
    write(home, "m1", ("q3", CHAMPION, False, [0.4]))
    reader.read(12.0, ["m1"])
    other = predictions(home, reader.positions)
    write(home, "m2", ("q2", CANARY, True, [0.9]), ("q3", CANARY, True, [0.9]))
    assert [pair.id for pair in other.read(12.1, ["m2"])] == ["q2", "q3"]


def test_score_of_a_request_is_the_mean_of_its_rows(home):
    write(home, "m2", ("q1", CANARY, False, [0.25, 0.75]), ("q2", CANARY, False, None))
    reader = predictions(home)
    reader.read(0.0, ["m2"])
    assert reader.score("q1", True) == 0.5
    assert reader.score("q1", False) is reader.score("q2", True) is reader.score("q3", True) is None


@pytest.mark.parametrize(
    ("champion", "canary", "thresholds", "flip"),
    [
        ((0.4,), (0.6,), (0.5, 0.5), True),
        ((0.4,), (0.6,), (0.5, 0.7), False),
        ((0.5,), (0.49,), (0.5, 0.5), True),
        ((0.4,), (0.1,), (0.5, 0.5), False),
        ((0.4,), None, (0.5, 0.5), True),
        ((0.4,), (0.4, 0.4), (0.5, 0.5), True),
        ((0.4,), None, None, False),
    ],
)
def test_flips(champion, canary, thresholds, flip):
    assert is_flip(Pair("q1", champion, canary), thresholds) is flip


def test_one_row_stands_for_a_request_and_every_row_does_for_some():
    assert {chosen(f"q{number}", 4) for number in range(100)} == {0, 1, 2, 3}
    id_ = next(f"q{number}" for number in range(100) if chosen(f"q{number}", 3) == 2)
    assert is_flip(Pair(id_, (0.1, 0.1, 0.1), (0.1, 0.1, 0.9)), (0.5, 0.5))
    assert not is_flip(Pair(id_, (0.1, 0.1, 0.1), (0.9, 0.9, 0.1)), (0.5, 0.5))
