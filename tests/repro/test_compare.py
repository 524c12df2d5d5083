import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ci_tools.errors import RecordError
from ci_tools.record import open_record
from ci_tools.record.files import final_digests
from ci_tools.repro.compare import RUNGS, _ulp, compare
from tests.record import toy


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.train(tmp_path_factory.mktemp("base") / "run", evaluate=False)


def edited(record, tmp_path, **values):
    copy = tmp_path / "edited"
    shutil.copytree(record, copy)
    meta = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(meta | {"files": {}} | values))
    return copy


def test_identical_runs(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", evaluate=False))
    assert found.identical
    assert "120 steps, the evaluations and the final weights agree bit by bit" in found.sentence()
    assert json.loads(json.dumps(found.to_json()))["identical"] is True


def test_params(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", lr=0.03, evaluate=False))
    assert (found.rung, found.detail) == ("params", "lr 0.02 → 0.03")


def test_seed_counts_as_a_parameter(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", seed=4, evaluate=False))
    assert (found.rung, found.detail) == ("params", "seed 3 → 4")


def test_code(base, tmp_path):
    code = open_record(base).meta.code
    name = next(iter(code))
    found = compare(base, edited(base, tmp_path, code={**code, name: "0" * 64}))
    assert (found.rung, found.detail) == ("code", name)
    assert "the traces agree for 120 steps all the same" in found.sentence()


def test_data(tmp_path):
    rows = tmp_path / "rows.csv"
    records = []
    for content in ("1", "2"):
        rows.write_text(content)
        records.append(toy.train(tmp_path / content, data=[rows], steps=5))
    found = compare(*records)
    assert found.rung == "data"
    assert "rows.csv" in found.detail


def test_fingerprint(base, tmp_path):
    stack = open_record(base).meta.fingerprint
    found = compare(base, edited(base, tmp_path, fingerprint={**stack, "gpu": "H200"}))
    assert (found.rung, found.detail) == ("fingerprint", "gpu: none → H200")


def test_initial_weights(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="initial", evaluate=False))
    assert (found.rung, found.detail) == ("initial weights", "3.weight")


def test_batch(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", order_seed=99, evaluate=False))
    assert (found.rung, found.step) == ("batch", 0)


def test_loss(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="loss", at=47, evaluate=False))
    assert (found.rung, found.step, found.layer) == ("loss", 47, "")
    assert "ULP" in found.detail


def test_gradient_names_the_layer_that_backward_visits_first(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="gradient", at=47, evaluate=False))
    assert (found.rung, found.step, found.layer) == ("gradient", 47, "3.weight")
    assert "backward kernel" in found.sentence()
    assert [row["step"] for row in found.table] == [45, 46, 47, 48, 49]
    assert found.table[1]["loss ULP"] == 0
    assert found.table[3]["loss ULP"] > 0


def test_update_before_a_checkpoint_names_the_layer(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="update", at=99, evaluate=False))
    assert (found.rung, found.step, found.layer) == ("update", 99, "3.weight")


def test_update_of_the_last_step(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="update", at=toy.STEPS - 1, evaluate=False))
    assert (found.rung, found.step, found.layer) == ("update", toy.STEPS - 1, "3.weight")


def test_update_with_steps_since_the_last_equal_checkpoint_says_so(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="dead", at=90, evaluate=False))
    assert (found.rung, found.step, found.layer) == ("update", 99, "3.weight")
    assert "between the equal checkpoint after step 79 and this step" in found.sentence()


def test_update_that_no_checkpoint_separates_is_not_claimed(base, tmp_path):
    found = compare(base, toy.train(tmp_path / "run", bump="update", at=50, evaluate=False))
    assert (found.rung, found.step) == ("loss", 51)
    assert "or the update of step 50" in found.sentence()


def test_length(base, tmp_path):
    short = edited(base, tmp_path)
    trace = open_record(base).trace
    with pa.ipc.new_stream(str(short / "trace.arrows"), trace.schema) as writer:
        writer.write_table(trace.slice(0, 64))
    meta = json.loads((short / "run.json").read_text()) | {"steps": 64}
    (short / "run.json").write_text(json.dumps(meta))
    found = compare(base, short)
    assert (found.rung, found.detail) == ("length", "120 against 64 rows")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return toy.train(tmp_path_factory.mktemp("scored") / "run")


def change_log(record, name, column, row, value):
    table = getattr(open_record(record), name)
    at = table.column_names.index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    with pa.ipc.new_stream(str(record / f"{name}.arrows"), table.schema) as writer:
        writer.write_table(table)


def test_evaluation_names_step_split_metric_and_both_values(scored, tmp_path):
    other = edited(scored, tmp_path)
    before = open_record(scored).evals.column("value")[1].as_py()
    change_log(other, "evals", "value", 1, 0.5)
    found = compare(scored, other)
    assert (found.rung, found.step) == ("evaluation", 60)
    assert f"validation negative_mse {before!r} after 60 steps against validation negative_mse 0.5" in found.detail


def test_missing_evaluation(scored, tmp_path):
    other = edited(scored, tmp_path)
    with pa.ipc.new_stream(str(other / "evals.arrows"), open_record(scored).evals.schema) as writer:
        writer.write_table(open_record(scored).evals.slice(0, 3))
    assert (compare(scored, other).rung, compare(scored, other).detail) == ("evaluation", "4 against 3 rows")


def test_probe(scored, tmp_path):
    other = edited(scored, tmp_path)
    change_log(other, "probes", "noise_scale", 2, 0.25)
    found = compare(scored, other)
    assert (found.rung, found.step, found.detail) == ("probe", 75, "noise_scale after 75 steps")


def test_final_metrics(scored, tmp_path):
    other = edited(scored, tmp_path)
    (other / "metrics.json").write_text('{"negative_mse": 0.25}')
    assert (compare(scored, other).rung, compare(scored, other).detail) == (
        "evaluation",
        "final negative_mse 0.0 → 0.25",
    )


def test_final_scores(scored, tmp_path):
    other = edited(scored, tmp_path)
    table = open_record(scored).scores
    pq.write_table(table.slice(0, 1), other / "scores.parquet")
    assert (compare(scored, other).rung, compare(scored, other).detail) == ("evaluation", "scores.parquet")
    (other / "scores.parquet").unlink()
    assert compare(scored, other).rung == "evaluation"


@pytest.mark.parametrize("name", ["trace.arrows", "probes.arrows", "evals.arrows", "scores.parquet", "metrics.json"])
@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_file_that_is_not_what_the_run_left_is_refused_even_against_itself(scored, tmp_path, name, damage):
    other = edited(scored, tmp_path, files=final_digests(scored))
    path = other / name
    path.write_bytes(path.read_bytes() + b"\n")
    if damage == "gone":
        path.unlink()
    expected = f"no {name}" if damage == "gone" else f"{name} does not match the digest in run.json"
    with pytest.raises(RecordError, match=expected):
        compare(other, other)


def test_every_rung_is_planted_here():
    assert RUNGS == (
        "params", "code", "data", "fingerprint", "initial weights",
        "batch", "loss", "gradient", "update", "probe", "evaluation", "length",
    )  # fmt: skip


def test_corrupt_trace_is_refused(base, tmp_path):
    broken = edited(base, tmp_path)
    (broken / "trace.arrows").write_bytes(b"\x00" * 500)
    with pytest.raises(RecordError, match="not an Arrow stream"):
        compare(base, broken)


def test_truncated_trace_of_a_finished_run_is_refused(base, tmp_path):
    broken = edited(base, tmp_path)
    whole = (base / "trace.arrows").read_bytes()
    (broken / "trace.arrows").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(RecordError, match="holds 80 whole rows of 120"):
        compare(base, broken)


def test_missing_record_is_named(base, tmp_path):
    with pytest.raises(RecordError, match="no run record here"):
        compare(base, tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_ulp_agrees_with_numpy(seed):
    rng = np.random.default_rng(seed)
    a = np.float32(rng.standard_normal())
    b, expected = a, int(rng.integers(0, 50))
    for _ in range(expected):
        b = np.nextafter(b, np.float32(np.inf))
    assert _ulp(a, b) == expected


def test_ulp_counts_through_zero():
    tiny = np.nextafter(np.float32(0), np.float32(1))
    assert _ulp(-tiny, tiny) == 2
    assert _ulp(np.float32(-0.0), np.float32(0.0)) == 0
