import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import shutil
import sys
import zipfile
import zlib

import joblib
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from ci_tools.gates.artifact import latency, model_size, no_pickle, onnx_parity
from ci_tools.gates.inference import ratio_of_medians
from ci_tools.gates.pickles import find_pickle
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.verdict import Outcome

NONE = Baseline(None, "there is no baseline")


def verdict(measurement):
    return Judge(Policy(), None, "", 1).verdict(measurement)


# -- parity -------------------------------------------------------------------------------------------------------

CASES = {"test_batch_1": {"plain": 1e-7, "optimized": 2e-6}, "edge_batch_7": {"plain": 0.0, "optimized": 1e-7}}
CLEAN = {
    "score": 2e-6, "logit": 4e-5, "relative_logit": 4e-6, "flips": 0, "nonfinite": 0, "rows": 1000, "tolerance": 1e-5,
    "score_by_case": CASES,
}  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    """A run whose parity.json is CLEAN with changes."""

    def write(**changes):
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / "export/model.onnx").write_bytes(b"graph")
        report = {"sha256": hashlib.sha256(b"graph").hexdigest()} | CLEAN | changes
        (tmp_path / "export/parity.json").write_text(json.dumps({k: v for k, v in report.items() if v is not None}))
        return Run(tmp_path, (3,))

    return write


def test_equal_answers_pass_with_the_worst_case_named(exported):
    found = verdict(onnx_parity(exported()))
    assert found.outcome is Outcome.PASSED
    assert found.statistic == pytest.approx(0.4)  # the logit is nearer to the tolerance than the score
    assert found.evidence["worst_case"] == {"case": "test_batch_1", "level": "optimized", "score": 2e-6}


@pytest.mark.parametrize(
    ("changes", "statistic"),
    [
        ({"score": 1.1e-5}, 1.1),
        ({"relative_logit": 3e-5}, 3),
        ({"score": 0.0, "relative_logit": 0.0, "flips": 1}, 2),
        ({"score": 0.0, "relative_logit": 0.0, "nonfinite": 1}, 2),
        ({"flips": 2, "nonfinite": 3}, 6),
    ],
)
def test_any_way_to_answer_otherwise_fails(exported, changes, statistic):
    found = verdict(onnx_parity(exported(**changes)))
    assert found.outcome is Outcome.FAILED
    assert found.statistic == pytest.approx(statistic)


def test_difference_at_the_tolerance_passes(exported):
    assert verdict(onnx_parity(exported(score=1e-5))).outcome is Outcome.PASSED


@pytest.mark.parametrize("changes", [{"rows": 0}, {"score_by_case": {}}, {"score_by_case": None}, {"tolerance": 0}])
def test_report_over_nothing_is_no_pass(exported, changes):
    assert verdict(onnx_parity(exported(**changes))).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "changes",
    [{"flips": None}, {"score": float("nan")}, {"relative_logit": "small"}, {"nonfinite": True}, {"sha256": "0"}],
)
def test_report_that_is_incomplete_or_about_another_graph_is_an_error(exported, changes):
    found = verdict(onnx_parity(exported(**changes)))
    assert found.outcome is Outcome.ERROR
    assert "parity.json" in found.diagnosis


# -- pickles ------------------------------------------------------------------------------------------------------


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


VALUE = {"weights": [1.5, 2.5], "name": "model", "steps": 120}
ARRAYS = {"weights": np.arange(9.0).reshape(3, 3), "bias": np.zeros(3, np.float32)}


def torch_saved(**options):
    out = io.BytesIO()
    torch.save({"w": torch.ones(3)}, out, **options)
    return out.getvalue()


def npy(array, savez=False):
    out = io.BytesIO()
    (np.savez_compressed if savez else np.save)(out, array)
    return out.getvalue()


def joblib_dumped(**options):
    out = io.BytesIO()
    joblib.dump(ARRAYS, out, **options)
    return out.getvalue()


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


PICKLES = {
    **{f"protocol {n}": pickle.dumps(VALUE, n) for n in range(6)},
    "protocol 0 of a large object": pickle.dumps(list(range(10_000)), 0),
    "cut off": pickle.dumps(list(range(9999)))[:5000],
    "large bytes": pickle.dumps({"blob": b"\x00" * 300_000}),
    "global": b"cos\nsystem\n(S'true'\ntR.",
    "arrays": pickle.dumps(ARRAYS),
    "torch": torch_saved(),
    "torch legacy": torch_saved(_use_new_zipfile_serialization=False),
    "joblib": joblib_dumped(),
    "joblib zlib": joblib_dumped(compress=("zlib", 3)),
    "joblib xz": joblib_dumped(compress=("xz", 3)),
    "joblib bz2": joblib_dumped(compress=("bz2", 3)),
    "gzip": gzip.compress(pickle.dumps(VALUE)),
    "object array": npy(np.array([{}, None], dtype=object)),
    "object field": npy(np.zeros(2, [("x", "f4"), ("y", "O")])),
    "object array in npz": npy(np.array([{}], dtype=object), savez=True),
    "zip": zipped(a=b"text", archive__data=pickle.dumps(VALUE)),
    "zip in zip": zipped(a=b"text", inner=zipped(b=pickle.dumps(VALUE))),
    "unreadable zip": zipped(a=b"text" * 100)[:60] + b"\x00" * 50,
}


def arrow(table):
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def parquet(table):
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


TABLE = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
INNOCENT = {
    "empty": b"",
    "json": json.dumps(VALUE).encode(),
    "csv": b"step,loss\n0,1.5\n1,0.5\n",
    "text": b"category\nid\nN\nI am no pickle.",
    "word": b"data.",
    "arrow": arrow(TABLE),
    "parquet": parquet(TABLE),
    "array": npy(np.arange(5.0)),
    "array of text": npy(np.array(["O", "|O"])),
    "field named O": npy(np.zeros(2, [("O", "f4")])),
    "npz": npy(np.arange(5.0), savez=True),
    "zip": zipped(a=b"text", b=b"\x80\x02 is how a pickle begins"),
    "gzip": gzip.compress(b"step,loss\n"),
    "xz": lzma.compress(b"step,loss\n"),
    "bz2": bz2.compress(b"step,loss\n"),
    "zlib": zlib.compress(b"step,loss\n"),
    "broken gzip": gzip.compress(pickle.dumps(VALUE))[:4],
    "protocol byte only": b"\x80\x04",
    "noise": np.random.default_rng(0).bytes(10_000),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickle_is_found_under_an_innocent_name(tmp_path, name):
    (tmp_path / "notes.json").write_bytes(PICKLES[name])
    assert find_pickle(tmp_path / "notes.json")


@pytest.mark.parametrize("name", INNOCENT)
def test_file_without_a_pickle_is_left_alone(tmp_path, name):
    (tmp_path / "notes.json").write_bytes(INNOCENT[name])
    assert find_pickle(tmp_path / "notes.json") == ""


def test_safetensors_whose_header_length_looks_like_a_protocol_is_no_pickle(tmp_path):
    path, padding = tmp_path / "model.safetensors", 0
    while not (path.exists() and path.read_bytes().startswith(b"\x80\x02")):
        save_file({"w": np.ones(3, np.float32)}, path, metadata={"note": "x" * padding})
        padding += 1
    assert find_pickle(path) == ""


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth", ".joblib", ".PT"])
def test_name_that_loaders_unpickle_counts_whatever_it_holds(tmp_path, suffix):
    (tmp_path / f"model{suffix}").write_bytes(b"text")
    assert suffix in find_pickle(tmp_path / f"model{suffix}")


def test_any_bytes_can_be_looked_at(tmp_path):
    random = np.random.default_rng(0)
    seeds = [*PICKLES.values(), *INNOCENT.values()]
    for i in range(1000):
        data = bytearray(seeds[i % len(seeds)][:3000])
        for at in random.integers(max(len(data), 1), size=4 if data else 0):
            data[at] = random.integers(256)
        (tmp_path / "file").write_bytes(data)
        find_pickle(tmp_path / "file")


def test_odd_escapes_in_a_text_pickle_are_no_warning(tmp_path):
    (tmp_path / "file").write_bytes(b"S'a\\ b'\n.")
    find_pickle(tmp_path / "file")


def test_nothing_is_unpickled(tmp_path):
    for protocol in range(6):
        bomb = pickle.dumps(Runs(tmp_path / "ran"), protocol)
        for data in (bomb, gzip.compress(bomb), zipped(data=bomb), npy(np.array([Runs(tmp_path / "ran")]))):
            (tmp_path / "file").write_bytes(data)
            assert find_pickle(tmp_path / "file")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def toy_run(finished, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/seed-3").symlink_to(finished)
    return Run(tmp_path, (3,))


def test_run_without_pickles_passes_and_says_how_many_files_it_read(toy_run):
    (toy_run.root / "export").mkdir()
    (toy_run.root / "export/parity.json").write_text("{}")
    found = verdict(no_pickle(toy_run))
    assert found.outcome is Outcome.PASSED
    record = toy_run.root / "runs/seed-3"
    assert found.evidence["files"] == 1 + sum(path.is_file() for path in record.rglob("*"))


@pytest.mark.parametrize("folder", ["runs/seed-3/checkpoints/step-00000120", "data", "evaluation", "export/deep"])
def test_pickle_anywhere_in_the_run_fails_and_is_named(finished, tmp_path, folder):
    shutil.copytree(finished, tmp_path / "runs/seed-3")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a.bin", "b.bin"):
        (tmp_path / folder / name).write_bytes(PICKLES["protocol 2"])
    found = verdict(no_pickle(Run(tmp_path, (3,))))
    assert (found.outcome, found.statistic) == (Outcome.FAILED, 2)
    assert f"{folder}/a.bin holds a pickle" in found.diagnosis


def test_missing_record_is_no_pass(tmp_path):
    assert verdict(no_pickle(Run(tmp_path, (3,)))).outcome is Outcome.ERROR


# -- size and latency ---------------------------------------------------------------------------------------------


def save_model(root, layers=1, width=16, batch="batch", inputs=(("numeric", TensorProto.FLOAT, 6),)):
    """A chain of `layers` square products behind a first one, for each input; returns a run that holds it."""
    random = np.random.default_rng(0)
    nodes, weights, ends = [], [], []
    for name, _, columns in inputs:
        last, size = f"{name}_float", columns
        nodes.append(helper.make_node("Cast", [name], [last], to=TensorProto.FLOAT))
        for i in range(layers):
            weight = f"{name}_w{i}"
            weights.append(onnx.numpy_helper.from_array(random.standard_normal((size, width), np.float32), weight))
            nodes.append(helper.make_node("MatMul", [last, weight], [f"{name}_{i}"]))
            last, size = f"{name}_{i}", width
        ends.append(last)
    nodes.append(helper.make_node("Sum", ends, ["score"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(name, kind, [batch, columns]) for name, kind, columns in inputs],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch, width])],
        weights,
    )
    (root / "export").mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, root / "export/model.onnx")
    return Run(root, (3,))


def sized(root, model, beside=0):
    (root / "export").mkdir(parents=True)
    (root / "export/model.onnx").write_bytes(b"x" * model)
    if beside:
        (root / "export/model.onnx.data").write_bytes(b"x" * beside)
    return Run(root, (3,))


@pytest.mark.parametrize(
    ("sizes", "outcome", "ratio"),
    [((125, 0, 100), "passed", 1.25), ((126, 0, 100), "failed", 1.26), ((100, 100, 100), "failed", 2.0)],
)
def test_size_is_relative_to_the_baseline_and_counts_tensors_beside_the_graph(tmp_path, sizes, outcome, ratio):
    run, base = sized(tmp_path / "new", sizes[0], sizes[1]), sized(tmp_path / "old", sizes[2])
    found = verdict(model_size(run, Baseline(base)))
    assert (found.outcome, found.statistic) == (outcome, pytest.approx(ratio))
    assert found.evidence == {"bytes": sizes[0] + sizes[1], "baseline_bytes": 100}


def test_size_without_a_baseline_is_told_but_not_judged(tmp_path):
    run = sized(tmp_path / "new", 100)
    for baseline in (NONE, Baseline(Run(tmp_path / "empty", (3,)))):
        found = verdict(model_size(run, baseline))
        assert (found.outcome, found.evidence) == (Outcome.INCONCLUSIVE, {"bytes": 100})
        assert found.diagnosis


@pytest.mark.parametrize("gate", [model_size, latency])
def test_missing_model_is_an_error(tmp_path, gate):
    found = verdict(gate(Run(tmp_path, (3,)), NONE))
    assert found.outcome is Outcome.ERROR
    assert "model.onnx: no such file" in found.diagnosis


def test_model_with_a_hundred_times_the_work_is_too_slow(tmp_path):
    run = save_model(tmp_path / "new", layers=10, width=512)
    base = save_model(tmp_path / "old", layers=1, width=512)
    found = verdict(latency(run, Baseline(base)))
    assert found.outcome is Outcome.FAILED
    assert 1.2 < found.interval[0] <= found.statistic <= found.interval[1]
    assert "times the baseline's" in found.diagnosis
    assert verdict(latency(base, Baseline(run))).outcome is Outcome.PASSED


def test_model_is_not_slower_than_itself(tmp_path):
    run = save_model(tmp_path / "new", layers=2, width=256)
    found = verdict(latency(run, Baseline(run)))
    assert found.outcome is not Outcome.FAILED
    assert found.interval[0] <= found.statistic <= found.interval[1]
    assert found.evidence.keys() == {"batch_1", "batch_256"}


def test_latency_without_a_baseline_is_told_but_not_judged(tmp_path):
    found = verdict(latency(save_model(tmp_path), NONE))
    assert (found.outcome, found.diagnosis) == (Outcome.INCONCLUSIVE, NONE.why_not)
    assert all(found.evidence[f"batch_{size}"]["ms"] > 0 for size in (1, 256))


def test_graph_with_a_fixed_batch_is_timed_at_it(tmp_path):
    run = save_model(tmp_path / "new", batch=4)
    assert verdict(latency(run, Baseline(run))).evidence.keys() == {"batch_4"}
    found = verdict(latency(run, Baseline(save_model(tmp_path / "old", batch=8))))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "no batch size in common" in found.diagnosis


def test_graphs_are_fed_test_rows_where_they_fit_and_each_by_its_own_names(tmp_path, monkeypatch):
    import onnxruntime

    inputs = (
        ("numeric", TensorProto.FLOAT, 6),
        ("categorical", TensorProto.INT64, 2),
        ("extra", TensorProto.DOUBLE, 3),
    )
    run, base = save_model(tmp_path / "new", inputs=inputs), save_model(tmp_path / "old", inputs=inputs[1:2])
    (tmp_path / "new/data").mkdir()
    rows = {"numeric": np.full((5, 6), 7, np.float32), "categorical": np.full((5, 3), 7), "label": np.zeros(5)}
    np.savez(tmp_path / "new/data/test.npz", **rows)
    fed = []
    original = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession,
        "run",
        lambda self, names, feed: fed.append(feed) or original(self, names, feed),
    )
    assert verdict(latency(run, Baseline(base))).outcome is not Outcome.ERROR
    new, old = (next(f for f in fed if len(f) == n and len(f["categorical"]) == 256) for n in (3, 1))
    assert (new["numeric"] == 7).all()
    assert new["numeric"].shape == (256, 6)
    assert (new["categorical"] == 0).all()  # three columns do not fit into two
    assert new["extra"].std() > 0
    assert old["categorical"].shape == (256, 2)


@pytest.mark.parametrize("damage", ["broken", "text input"])
def test_graph_that_cannot_be_run_is_an_error(tmp_path, damage):
    run = save_model(tmp_path)
    if damage == "broken":
        run.model.write_bytes(b"no graph")
    else:
        value = helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"])
        graph = helper.make_graph([helper.make_node("Identity", ["text"], ["out"])], "text", [value], [
            helper.make_tensor_value_info("out", TensorProto.STRING, ["batch"])])  # fmt: skip
        onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), run.model)
    found = verdict(latency(run, NONE))
    assert found.outcome is Outcome.ERROR
    assert str(run.model) in found.diagnosis
    assert "\n" not in found.diagnosis


def test_machine_without_onnx_runtime_is_an_error_with_the_fix(tmp_path, monkeypatch):
    run = save_model(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = verdict(latency(run, NONE))
    assert found.outcome is Outcome.ERROR
    assert "onnxruntime is not installed" in found.diagnosis


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_interval_of_the_ratio_agrees_with_scipys_bootstrap(ratio):
    random = np.random.default_rng(1)
    time_R2 = random.lognormal(0, 0.3, (200, 1)) * random.lognormal(0, 0.1, (200, 2)) * [ratio, 1]
    expected = scipy.stats.bootstrap(
        (time_R2[:, 0], time_R2[:, 1]),
        lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis),
        paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    found = ratio_of_medians(time_R2, 0.95, np.random.default_rng(3))
    assert found["ratio"] == np.median(time_R2[:, 0]) / np.median(time_R2[:, 1])
    width = expected.high - expected.low
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.1 * width)
