import json
import random
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from ci_tools.errors import RecordError
from ci_tools.record import open_record
from ci_tools.record.files import final_digests
from ci_tools.repro import manifest
from ci_tools.repro.checkpoint import tensor_digest
from ci_tools.repro.replay import replay


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    record = tmp_path_factory.mktemp("original") / "run"
    subprocess.run([sys.executable, "-m", "tests.record.toy", str(record), '{"steps": 60}'], check=True)
    edit(record, files=final_digests(record))
    return record


def edit(record, **values):
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(meta | values))


@pytest.fixture
def record(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def run(record, segments=99, seed=0):
    return replay(record, segments, seed=seed, echo=lambda line: None)


def run_stretch(record, index, of=3):
    """Of all stretches only that one, which a seed chooses."""
    return run(record, 1, next(seed for seed in range(99) if random.Random(seed).sample(range(of), 1) == [index]))


def test_good_record_is_confirmed(record):
    found = run(record)
    assert found.ok, found.render()
    assert found.replayed == ["steps 0 to 30", "steps 30 to 40", "steps 40 to 60"]


def test_fewer_segments_than_there_are_states_the_chance_to_find_a_corruption(record):
    found = run(record, segments=1)
    assert len(found.replayed) == 1
    assert "1 of 3 segments" in found.render()
    assert "probability 10%" in found.render()


def test_flipped_bit_in_a_checkpoint_tensor_is_found_and_named(record):
    weights = record / "checkpoints" / "step-00000040" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    found = run(record)
    assert not found.ok
    assert "tensor " in found.findings[0]
    assert "step-00000040" in found.findings[0]


def test_flipped_bit_whose_manifest_was_mended_is_found_by_execution(record):
    folder = record / "checkpoints" / "step-00000040"
    weights = load_file(folder / "model.safetensors")
    weights["3.bias"].view(dtype=__import__("torch").int32)[0] ^= 1
    save_file(weights, folder / "model.safetensors")
    content = json.loads((folder / "manifest.json").read_text())
    content["tensors"]["model.safetensors"]["3.bias"] = tensor_digest(weights["3.bias"])
    content["files"]["model.safetensors"] = manifest.file_digest(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(content))
    found = run_stretch(record, 1)
    assert "steps 30 to 40: 3.bias in step-00000040/model.safetensors differs after re-execution" in found.findings


@pytest.mark.parametrize("column", ["loss", "grad_absmax"])
def test_flipped_bit_in_a_trace_row_is_found(record, column):
    trace = open_record(record).trace
    buffers = []
    for batch in trace.to_batches():
        pieces = []
        for name in trace.schema.names:
            array = batch.column(name)
            data = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
            raw = bytearray(data.buffers()[1].to_pybytes()[: len(data) * data.type.bit_width // 8])
            if name == column and batch.column("step")[0].as_py() <= 44 <= batch.column("step")[-1].as_py():
                row = 44 - batch.column("step")[0].as_py()
                raw[row * len(raw) // len(batch)] ^= 1
            flat = pa.Array.from_buffers(data.type, len(data), [None, pa.py_buffer(bytes(raw))])
            nested = pa.types.is_fixed_size_list(array.type)
            pieces.append(pa.FixedSizeListArray.from_arrays(flat, array.type.list_size) if nested else flat)
        buffers.append(pa.RecordBatch.from_arrays(pieces, schema=trace.schema))
    with pa.ipc.new_stream(str(record / "trace.arrows"), trace.schema) as writer:
        for batch in buffers:
            writer.write_batch(batch)
    assert run_stretch(record, 2).findings == [
        "trace.arrows does not match the digest in run.json",
        f"steps 40 to 60: trace row of step 44 differs in {column}",
    ]


def test_segment_recomputed_with_another_learning_rate_is_found(original, tmp_path):
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "tests.record.toy", str(other), '{"steps": 60, "lr": 0.021}'], check=True)
    edit(other, command=open_record(original).meta.command)
    with pytest.raises(RecordError, match=r"params differ from the record's: lr 0\.021 → 0\.02 now"):
        run(other, segments=1)
    edit(other, params=open_record(original).meta.params)  # as if the record lied about them
    found = run_stretch(other, 0)
    assert not found.ok
    assert any("differs in" in finding for finding in found.findings)


def test_replay_runs_where_it_is_started_and_says_so(record):
    assert run(record, segments=0).note == ""
    edit(record, workdir=str(record))
    found = run(record, segments=1)
    assert found.ok, "nothing to run stands in the recorded directory"
    assert f"note: recorded in {record}, re-executed in" in found.render()


@pytest.mark.parametrize(
    ("key", "expected"), [("code", "code differ"), ("data", "data differ"), ("fingerprint", "on the same stack only")]
)
def test_other_conditions_are_named_instead_of_accusing_the_record(record, key, expected):
    meta = json.loads((record / "run.json").read_text())
    edit(record, **{key: dict.fromkeys(meta[key], "0") or {"rows.csv": "0"}})
    with pytest.raises(RecordError, match=expected):
        run(record, segments=1)


@pytest.mark.parametrize("name", ["probes", "evals"])
def test_altered_measurement_is_found_by_execution(record, name):
    table = getattr(open_record(record), name)
    column = {"probes": "noise_scale", "evals": "value"}[name]
    values = [0.5, *table.column(column).to_pylist()[1:]]
    at = table.column_names.index(column)
    with pa.ipc.new_stream(str(record / f"{name}.arrows"), table.schema) as writer:
        writer.write_table(table.set_column(at, table.schema.field(at), pa.array(values, pa.float64())))
    what = {"probes": "probe of step 24", "evals": "evaluation of step 30"}[name]
    assert run_stretch(record, 0).findings == [
        f"{name}.arrows does not match the digest in run.json",
        f"steps 0 to 30: {what} differs in {column}",
    ]


@pytest.mark.parametrize("name", ["probes", "evals"])
def test_missing_measurement_is_found_by_execution(record, name):
    table = getattr(open_record(record), name)
    with pa.ipc.new_stream(str(record / f"{name}.arrows"), table.schema) as writer:
        writer.write_table(table.slice(0, 0))
    assert any("0 rows of" in finding for finding in run_stretch(record, 0).findings)


@pytest.mark.parametrize("name", ["scores.parquet", "metrics.json"])
def test_altered_result_is_a_finding(record, name):
    (record / name).write_bytes((record / name).read_bytes() + b"\n")
    assert run(record, segments=1).findings == [f"{name} does not match the digest in run.json"]


def test_manifest_that_counts_other_rows_than_the_trace_is_a_finding(record):
    path = record / "checkpoints" / "step-00000040" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trace_rows": 60}))
    found = run_stretch(record, 2)
    name = "step-00000040"
    assert found.findings == [
        f"checkpoints/{name}/manifest.json does not match the digest in run.json",
        f"{name}: its manifest counts 60 trace rows, the trace 40",
    ]
    assert found.replayed == ["steps 40 to 60"]


def test_unfinished_record_is_refused(record):
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(meta | {"status": "preempted"}))
    with pytest.raises(RecordError, match="only a finished run"):
        run(record)


def test_command_that_fails_is_quoted(record):
    meta = json.loads((record / "run.json").read_text())
    meta["command"] = [sys.executable, "-c", "raise SystemExit('no data here')"]
    (record / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RecordError, match=r"exit code 1: no data here"):
        run(record)
