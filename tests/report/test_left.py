"""What a pipeline left behind: metrics from its evaluation, and from what training handed over."""

import json

import pytest

from ci_tools.report.left import read_object, with_recorded


@pytest.fixture
def records(tmp_path):
    """Write what each seed was finished with; returns the folder."""

    def write(**by_seed):
        for seed, metrics in by_seed.items():
            folder = tmp_path / "runs" / seed.replace("_", "-")
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return tmp_path

    return write


def test_recorded_metrics_stand_as_the_evaluation_writes_its_own(records):
    root = records(seed_1={"accuracy": 0.9}, seed_2={"accuracy": 0.7})
    assert with_recorded({}, root, [1, 2]) == {
        "release": {"accuracy": 0.9},
        "seeds": {"accuracy": {"mean": pytest.approx(0.8), "sd": pytest.approx(0.1414, abs=1e-4), "n": 2}},
    }


def test_evaluation_is_believed_where_both_tell_a_metric(records):
    evaluation = {"release": {"roc_auc": 0.9}, "seeds": {"log_loss": {"mean": 0.1}}, "trees": {"roc_auc": 0.8}}
    root = records(seed_1={"roc_auc": 0.1, "log_loss": 0.2})
    assert with_recorded(evaluation, root, [1]) == evaluation


def test_seed_without_a_record_or_without_the_number_is_left_out(records):
    root = records(seed_2={"accuracy": 0.7, "name": "x", "loss": float("nan"), "flag": True})
    assert with_recorded({}, root, [1, 2, 3]) == {"seeds": {"accuracy": {"mean": 0.7, "n": 1}}}
    assert with_recorded({}, root, []) == {}


@pytest.mark.parametrize("values", [(1.7e308, 1.7e308), (1.7e308, -1.7e308)], ids=["mean", "deviation"])
def test_moments_beyond_all_floats_are_left_out(records, values):
    root = records(seed_1={"huge": values[0]}, seed_2={"huge": values[1]})
    assert with_recorded({}, root, [1, 2]) == {"release": {"huge": values[0]}, "seeds": {"huge": {"n": 2}}}


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"'])
def test_file_of_another_form_is_as_good_as_none(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    assert read_object(tmp_path / "f.json") == read_object(tmp_path / "none.json") == {}
