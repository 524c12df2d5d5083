"""The ONNX file: what it says, that it stands alone, and that a difference from torch cannot hide."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ci_tools.errors import DataError, RecordError, RecordMismatch, TrainingFailed
from model import export as stage
from model import parity
from model.data import load_schema
from model.network import RiskNetwork
from model.params import Params
from tests.model_code.prepared import SMALL, write_data, write_record

ROOT = Path(__file__).parents[2]
PARAMS = Params.model_validate({**SMALL, "seeds": (1,)})


def make_network(schema, spread=0.5):
    """Random weights, none of them zero, so that every one matters to the score."""
    torch.manual_seed(0)
    network = RiskNetwork(PARAMS.network, schema).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return network


def make_work(folder, numeric=3, categorical=2):
    schema = write_data(folder / "data", numeric, categorical)
    write_record(folder / "record", folder / "data", network=make_network(schema))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One export of a small network, and its report."""
    work = make_work(tmp_path_factory.mktemp("exported"))
    return work, stage.export(PARAMS, work / "data", work / "record", work / "export")


@pytest.fixture
def parts(exported):
    """Schema, network, graph and edge inputs of that export."""
    work, _ = exported
    schema = load_schema(work / "data")
    return schema, make_network(schema), onnx.load(work / "export" / "model.onnx"), parity.edge_inputs(schema)


def session(model):
    return parity.open_session(model.SerializeToString(), parity.LEVELS["optimized"])


def test_scores_agree_with_torch_on_test_rows_and_edges(exported):
    work, report = exported
    assert report["score"] <= 1e-5
    assert report["flips"] == report["nonfinite"] == 0
    assert report["rows"] == 400 + len(parity.edge_inputs(load_schema(work / "data")).numeric)
    cases = {f"{case}_batch_{size}" for case in ("test", "edge") for size in (1, 7, 256)}
    assert set(report["score_by_case"]) == cases
    assert all(set(levels) == {"plain", "optimized"} for levels in report["score_by_case"].values())


def test_report_describes_the_file(exported):
    work, report = exported
    content = (work / "export" / "model.onnx").read_bytes()
    assert report["bytes"] == len(content)
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert json.loads((work / "export" / "parity.json").read_text()) == report


def test_the_file_stands_alone_and_names_its_origin(exported, parts):
    work, _ = exported
    _, _, model, _ = parts
    assert [path.name for path in sorted((work / "export").iterdir())] == ["model.onnx", "parity.json"]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    columns, decision = (json.loads(properties.pop(name)) for name in ("schema", "decision"))
    assert decision["output"] == "score"
    assert decision["threshold"] is None or 0 < decision["threshold"] < 1
    version = stage.ci_tools.__version__
    assert properties == {"git_commit": "c0ffee", "params_digest": "d1", "seed": "1", "switchback_version": version}
    assert columns["numeric"] == [{"name": "n0", "unit": "€"}, {"name": "n1"}, {"name": "n2"}]
    assert columns["categorical"][1] == {"name": "c1", "categories": ["a", "b", "c"]}
    assert columns["label"]["positive"] == "yes"


def test_no_path_of_the_machine_is_in_the_file(exported):
    work, _ = exported
    content = (work / "export" / "model.onnx").read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_batch_is_free_and_inputs_and_outputs_are_named(parts):
    _, _, model, _ = parts
    opened = session(model)
    assert {i.name: (i.shape, i.type) for i in opened.get_inputs()} == {
        "numeric": (["batch", 3], "tensor(float)"),
        "categorical": (["batch", 2], "tensor(int64)"),
    }
    assert {o.name: o.shape for o in opened.get_outputs()} == {"logit": ["batch"], "score": ["batch"]}
    for batch in (1, 2, 33):
        inputs = {"numeric": np.zeros((batch, 3), np.float32), "categorical": np.zeros((batch, 2), np.int64)}
        logit, score = opened.run(["logit", "score"], inputs)
        assert logit.shape == score.shape == (batch,)
        assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_opset_is_the_one_asked_for(parts):
    _, _, model, _ = parts
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", PARAMS.export.opset)]


def test_two_exports_give_the_same_bytes(exported):
    work, report = exported
    again = stage.export(PARAMS, work / "data", work / "record", work / "again")
    assert again == report


def test_dropout_is_off_whatever_mode_the_network_was_left_in(parts):
    _, network, model, edges = parts
    network.train()
    assert parity.measure(model.SerializeToString(), network, {"edge": edges}, [0.5])["score"] <= 1e-5


@pytest.mark.parametrize(("numeric", "categorical"), [(0, 2), (3, 0)])
def test_data_of_one_kind_of_column_is_enough(tmp_path, numeric, categorical):
    work = make_work(tmp_path, numeric, categorical)
    report = stage.export(PARAMS, work / "data", work / "record", work / "export")
    assert report["score"] <= 1e-5


def test_edges_hold_every_extreme_and_every_kind_of_code(parts):
    schema, _, _, edges = parts
    numeric, codes = edges
    assert np.isnan(numeric).all(axis=1).any()
    for extreme in (0, 1e30, -1e30, np.finfo(np.float32).max, -np.finfo(np.float32).max, np.inf, -np.inf):
        assert (numeric == np.float32(extreme)).all(axis=1).any()
    for code in (0, 3, 4, -1, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
        assert (codes == code).all(axis=1).any()
    assert len(np.unique(np.isinf(numeric).sum(axis=1))) > 2
    assert len(schema["numeric"]) == numeric.shape[1]


def test_unseen_codes_score_like_missing_ones(parts):
    _, _, model, _ = parts
    codes = np.array([[0, 0], [4, 99], [-1, 0], [2**62, -(2**62)]], np.int64)
    (score,) = session(model).run(["score"], {"numeric": np.ones((4, 3), np.float32), "categorical": codes})
    assert len(set(score.tolist())) == 1


@pytest.mark.parametrize("size", [1e-3, np.nan])
def test_a_planted_mismatch_in_any_weight_is_caught(parts, size):
    _, network, model, edges = parts
    floats = [
        w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and w.name.startswith("network")
    ]
    assert len(floats) > 10
    missed = []
    for weight in floats:
        kept = weight.SerializeToString()
        values = onnx.numpy_helper.to_array(weight) * (1 + np.float32(size)) + np.float32(size)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        report = parity.measure(model.SerializeToString(), network, {"edge": edges}, [0.5])
        try:
            stage.check(report, 1e-5, "model.onnx")
            missed.append(weight.name)
        except TrainingFailed:
            pass
        weight.ParseFromString(kept)
    assert missed == []


def test_difference_counts_flips_and_nonfinite_and_measures_the_rest():
    logit, score = np.array([0.0, 1.0, -3.0, 9.0]), np.array([0.4, 0.6, 0.2, 0.9])
    other = parity.Outputs(np.array([0.0, 1.5, -3.0, np.inf]), np.array([0.4, 0.45, 0.3, 0.9]))
    found = parity.difference(parity.Outputs(logit, score), other, [0.5, 0.25])
    assert found == pytest.approx({"score": 0.15, "logit": 0.5, "relative_logit": 0.25, "flips": 2, "nonfinite": 1})


@pytest.mark.parametrize("broken", [{"score": 2e-5}, {"flips": 1}, {"nonfinite": 1}])
def test_each_breach_alone_fails(broken):
    fine = {"score": 1e-5, "flips": 0, "nonfinite": 0}
    stage.check(fine, 1e-5, "model.onnx")
    with pytest.raises(TrainingFailed, match=r"model\.onnx: ONNX Runtime and torch disagree"):
        stage.check(fine | broken, 1e-5, "model.onnx")


def arguments(work, params="seeds: [1]\n"):
    (work / "params.yaml").write_text(params)
    flags = {"--params": "params.yaml", "--data": "data", "--record": "record", "--out": "export"}
    return [text for flag, name in flags.items() for text in (flag, str(work / name))]


def test_out_of_tolerance_exits_1_with_the_evidence_written(tmp_path, capsys):
    work = make_work(tmp_path)
    assert stage.main(arguments(work, "export: {score_tolerance: 1e-12}\n")) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert json.loads((work / "export" / "parity.json").read_text())["score"] > 1e-12
    assert (work / "export" / "model.onnx").is_file()


def test_the_command_is_quiet_but_for_its_summary(tmp_path):
    work = make_work(tmp_path)
    command = [sys.executable, "-m", "model.export", *arguments(work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


def test_an_unfinished_record_is_refused(tmp_path):
    write_data(tmp_path / "data")
    write_record(tmp_path / "record", tmp_path / "data", status="failed")
    with pytest.raises(RecordError, match="training is failed"):
        stage.export(PARAMS, tmp_path / "data", tmp_path / "record", tmp_path / "export")


@pytest.mark.parametrize("change", [{"mean": 7.0}, {"transform": "log"}])
def test_weights_of_another_normalisation_are_refused(tmp_path, change):
    work = make_work(tmp_path)
    schema = load_schema(work / "data")
    schema["numeric"][0] |= change
    (work / "data" / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(RecordMismatch, match="do not fit this data"):
        stage.export(PARAMS, work / "data", work / "record", work / "export")


def test_weights_of_other_columns_are_refused(tmp_path):
    work = make_work(tmp_path)
    write_data(tmp_path / "other", numeric=4)
    with pytest.raises(RecordMismatch, match="do not fit this data"):
        stage.export(PARAMS, tmp_path / "other", work / "record", work / "export")


def test_damaged_weights_are_one_clear_error(tmp_path):
    work = make_work(tmp_path)
    weights = next((work / "record").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RecordError, match="the weights are damaged"):
        stage.export(PARAMS, work / "data", work / "record", work / "export")


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    work = make_work(tmp_path)
    (work / "export").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        stage.export(PARAMS, work / "data", work / "record", work / "export")
