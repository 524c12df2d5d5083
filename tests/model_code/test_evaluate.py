"""Evaluation of records: agreement with independent computations, refusals, and files that DVC reads."""

import csv
import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ci_tools.errors import DataError, RecordError, RecordMismatch
from model import evaluate as stage
from model.params import Params
from tests.model_code.prepared import SMALL, write_data, write_record

PARAMS = Params.model_validate({**SMALL, "seeds": (3, 1, 2)})
NETWORK_ONLY = Params.model_validate({**SMALL, "seeds": (3, 1, 2), "evaluate": {"simpler_models": False}})


@pytest.fixture
def work(tmp_path):
    write_data(tmp_path / "data")
    for seed in PARAMS.seeds:
        write_record(tmp_path / "runs" / f"seed-{seed}", tmp_path / "data", seed=seed)
    return tmp_path


def run(work, params=NETWORK_ONLY):
    stage.evaluate(params, work / "data", work / "runs", work / "evaluation")
    return work / "evaluation"


def numbers(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    return [value]


def columns(path):
    with path.open() as file:
        table = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in table] for name in table[0]}


def test_release_is_the_first_seed_and_seeds_are_summarised(work):
    report = json.loads((run(work) / "metrics.json").read_text())
    by_seed = {}
    for seed in PARAMS.seeds:
        table = pq.read_table(work / "runs" / f"seed-{seed}" / "scores.parquet")
        by_seed[seed] = average_precision_score(table["label"].to_numpy(), table["score"].to_numpy())
    values = list(by_seed.values())
    mean = sum(values) / 3
    assert report["release"]["average_precision"] == pytest.approx(by_seed[3], abs=1e-12)
    assert report["seeds"]["average_precision"] == pytest.approx(
        {
            "mean": mean,
            "sd": math.sqrt(sum((v - mean) ** 2 for v in values) / 2),
            "min": min(values),
            "max": max(values),
        },
        abs=1e-12,
    )


def test_metrics_are_finite_plain_numbers(work):
    report = json.loads((run(work, PARAMS) / "metrics.json").read_text())
    assert set(report) == {"release", "seeds", "logistic_regression", "gradient_boosting"}
    assert all(isinstance(number, float) and math.isfinite(number) for number in numbers(report))


def test_a_single_seed_has_no_spread(work):
    report = json.loads((run(work, PARAMS.model_copy(update={"seeds": (2,)})) / "metrics.json").read_text())
    assert report["seeds"]["roc_auc"]["sd"] == 0.0


def test_simpler_models_learn_from_train_and_score_the_test_rows(work):
    out = run(work, PARAMS)
    table = pq.read_table(out / "scores.parquet").to_pydict()
    with np.load(work / "data" / "test.npz") as test:
        assert table["id"] == test["id"].tolist()
    for name in ("logistic_regression", "gradient_boosting"):
        assert roc_auc_score(table["label"], table[name]) > 0.65
    assert list(table) == [
        "id",
        "label",
        "c0",
        "c1",
        "seed_3",
        "seed_1",
        "seed_2",
        "logistic_regression",
        "gradient_boosting",
    ]


def test_simpler_models_are_optional(work):
    out = run(work, NETWORK_ONLY)
    assert set(json.loads((out / "metrics.json").read_text())) == {"release", "seeds"}
    assert set(columns(out / "roc.csv")) == {"false_positive_rate", "network"}


@pytest.mark.parametrize(("numeric", "categorical"), [(0, 2), (3, 0)])
def test_data_of_one_kind_of_column_is_enough(tmp_path, numeric, categorical):
    write_data(tmp_path / "data", numeric, categorical)
    write_record(tmp_path / "runs" / "seed-1", tmp_path / "data")
    out = run(tmp_path, PARAMS.model_copy(update={"seeds": (1,)}))
    assert len(json.loads((out / "slices.json").read_text())) == categorical


def test_logistic_regression_sees_what_the_network_sees():
    torch = pytest.importorskip("torch")
    from model.network import Normalizer

    schema = [
        {"transform": "log", "mean": 1.5, "scale": 0.7},
        {"transform": "identity", "mean": -3.0, "scale": 12.0},
    ]
    rng = np.random.default_rng(0)
    raw = (rng.standard_normal((300, 2)) * 10.0 ** rng.integers(-3, 9, (300, 2))).astype(np.float32)
    raw[::7] = np.nan
    expected = Normalizer(schema)(torch.from_numpy(raw)).numpy()
    assert stage.standardise(raw, schema) == pytest.approx(expected, abs=1e-5)


def test_slices_equal_metrics_of_their_rows_and_small_ones_stay_null(work):
    path = work / "runs" / "seed-3" / "scores.parquet"
    table = pq.read_table(path)
    names = np.where(np.arange(table.num_rows) < stage.SLICE_ROWS - 1, "rare", "common").astype(object)
    names[-stage.SLICE_ROWS :] = "one class"
    label = table["label"].to_numpy().copy()
    names[(names == "one class") & (label == 1)] = "common"
    rows_of = {name: names == name for name in set(names.tolist())}
    pq.write_table(table.drop_columns(["c0", "c1"]).append_column("c0", [names.tolist()]), path)

    found = json.loads((run(work) / "slices.json").read_text())["c0"]
    assert {name: cell["n"] for name, cell in found.items()} == {n: int(r.sum()) for n, r in rows_of.items()}
    assert found["rare"]["release"] is None
    assert found["rare"]["seeds"] is None
    assert found["one class"]["release"] is None
    inside, score = rows_of["common"], table["score"].to_numpy()
    assert found["common"]["positives"] == label[inside].sum()
    assert found["common"]["release"]["roc_auc"] == pytest.approx(
        roc_auc_score(label[inside], score[inside]), abs=1e-12
    )
    assert found["common"]["release"] == found["common"]["seeds"]["3"] != found["common"]["seeds"]["1"]


def test_curves_are_short_and_match_the_metrics(work):
    out = run(work, PARAMS)
    report = json.loads((out / "metrics.json").read_text())["release"]
    precision, roc, calibration = (columns(out / f"{name}.csv") for name in ("precision_recall", "roc", "calibration"))
    assert max(len(precision["recall"]), len(roc["network"])) <= 200
    assert set(precision) == {"recall", "network", "logistic_regression", "gradient_boosting"}
    area = np.trapezoid(roc["network"], roc["false_positive_rate"])
    assert area == pytest.approx(report["roc_auc"], abs=0.01)
    reached = [r for r, p in zip(precision["recall"], precision["network"], strict=True) if p >= 0.5]
    assert max(reached) == pytest.approx(report["recall_at_precision"], abs=0.01)
    weights = np.array(calibration["n"])
    gaps = np.abs(np.array(calibration["predicted"]) - np.array(calibration["observed"]))
    assert float(weights @ gaps / weights.sum()) == pytest.approx(report["calibration_error"], abs=1e-12)


def test_two_evaluations_write_the_same_bytes(work):
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run(work, PARAMS).iterdir()}
        for _ in range(2)
    ]
    assert digests[0] == digests[1]
    assert set(digests[0]) == {
        "metrics.json",
        "slices.json",
        "scores.parquet",
        "precision_recall.csv",
        "roc.csv",
        "calibration.csv",
    }


@pytest.mark.parametrize("column", ["id", "label"])
def test_a_record_of_other_data_is_refused(work, column):
    path = work / "runs" / "seed-2" / "scores.parquet"
    table = pq.read_table(path)
    changed = table[column].to_numpy().copy()
    changed[0] = 1 - changed[0]
    pq.write_table(table.set_column(table.column_names.index(column), column, [changed]), path)
    with pytest.raises(RecordMismatch, match=r"seed-2: the record was made on other data"):
        run(work)


def test_a_record_of_other_params_is_refused(work):
    wider = PARAMS.model_copy(update={"network": PARAMS.network.model_copy(update={"width": 9})})
    with pytest.raises(RecordMismatch, match=r"seed-3: was trained with network\.width=8, params\.yaml now has 9"):
        run(work, wider)


def test_an_unfinished_record_is_refused(work, tmp_path):
    write_record(work / "runs" / "seed-9", work / "data", seed=9, status="running")
    with pytest.raises(RecordError, match="training is running"):
        run(work, PARAMS.model_copy(update={"seeds": (1, 9)}))


def test_scores_that_are_not_numbers_are_refused(work):
    write_record(work / "runs" / "seed-9", work / "data", seed=9, score=np.full(400, np.nan))
    with pytest.raises(RecordError, match="400 of 400 scores are not finite"):
        run(work, PARAMS.model_copy(update={"seeds": (9,)}))


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(work):
    (work / "evaluation").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        run(work)


def test_the_command_prints_one_line_and_an_exit_code(work, capsys):
    params = work / "params.yaml"
    small = "network: {width: 8, blocks: 1, embedding: 3}\n"
    params.write_text(small + "seeds: [3, 7]\n")
    arguments = ["--params", params, "--data", work / "data", "--runs", work / "runs", "--out", work / "evaluation"]
    assert stage.main(list(map(str, arguments))) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert "seed-7" in output.err
    params.write_text(small + "seeds: [3]\n")
    assert stage.main(list(map(str, arguments))) == 0
    assert "average_precision" in capsys.readouterr().out


def test_evaluation_needs_no_torch():
    code = "import sys, model.evaluate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
