import json
import shutil
import subprocess
import sys
from contextlib import suppress
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ci_tools.errors import RecordError, SwitchbackError
from ci_tools.record import open_record, schema
from ci_tools.record.files import final_digests
from ci_tools.repro import manifest
from ci_tools.repro.compare import compare
from tests.record import toy

READ_EVERYTHING = """
import sys
sys.modules["torch"] = None
from ci_tools.record import open_record
from ci_tools.repro import manifest
from ci_tools.repro.compare import compare
record = open_record(sys.argv[1])
print(record.trace.num_rows, record.final_trace().num_rows, record.probes.num_rows, record.evals.num_rows)
print(record.scores.num_rows, record.metrics, record.weights.name)
print(all(manifest.verify(folder)["tensors"] for folder in record.checkpoints))
print(sorted(manifest.read_tensors(record.weights)))
print(compare(sys.argv[1], sys.argv[1]).identical)
import ci_tools.record
try:
    ci_tools.record.Recorder
except ImportError:
    print("only writing needs torch")
"""


@pytest.fixture
def record(finished, tmp_path):
    """A copy to damage, whose run.json does not vouch for its files."""
    copy = shutil.copytree(finished, tmp_path / "run")
    edit(copy, files={})
    return copy


def edit(record, **values):
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(meta | values))


def write_trace(record, steps):
    """A trace of these steps, in this order, with zeros in the other columns."""
    columns = schema.trace_schema(6)
    table = pa.Table.from_pylist(
        [{f.name: [0.0] * 6 if pa.types.is_fixed_size_list(f.type) else 0 for f in columns} for _ in steps], columns
    )
    table = table.set_column(0, columns.field("step"), pa.array(steps, pa.int64()))
    table = table.set_column(
        columns.get_field_index("samples_seen"), columns.field("samples_seen"), pa.array(range(len(steps)), pa.int64())
    )
    with pa.ipc.new_stream(str(record / "trace.arrows"), columns) as writer:
        writer.write_table(table)


def test_everything_is_read_without_torch(finished):
    done = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, str(finished)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "120 120 4 4",
        "2 {'negative_mse': 0.0} model.safetensors",
        "True",
        "['0.bias', '0.weight', '3.bias', '3.weight', '5.bias', '5.weight']",
        "True",
        "only writing needs torch",
    ]


def test_unknown_attribute_of_the_package_is_an_attribute_error():
    import ci_tools.record

    with pytest.raises(AttributeError, match="no attribute 'Recordre'"):
        ci_tools.record.Recordre  # noqa: B018


# -- the final trace ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 1, 2, 3, 4], [0, 4, 5, 6, 7]),  # one return to step 1
        ([0, 1, 2, 3, 2, 3, 1, 2, 3], [0, 6, 7, 8]),  # two returns, the second further back
        ([0, 1, 2, 3, 4, 5, 2, 3], [0, 1, 6, 7]),  # ended before it caught up with what it abandoned
        ([0, 1, 0], [2]),
        ([], []),
    ],
)
def test_final_trace_leaves_out_what_was_abandoned(record, steps, kept):
    write_trace(record, steps)
    edit(record, steps=0)
    final = open_record(record).final_trace()
    assert final.column("samples_seen").to_pylist() == kept
    assert final.column("step").to_pylist() == [steps[row] for row in kept]


@pytest.mark.parametrize(
    ("steps", "step", "rows"),
    [([0, 1, 2, 3], 2, 2), ([0, 1, 2, 3], 0, 0), ([0, 1, 2, 3, 1, 2, 3, 4], 3, 6), ([0, 1, 2, 1], 3, 3), ([], 3, 0)],
)
def test_checkpoint_counts_on_the_rows_of_the_last_attempt_to_its_step(record, steps, step, rows):
    write_trace(record, steps)
    edit(record, steps=0)
    assert open_record(record).rows_before(step) == rows


# -- the released weights -----------------------------------------------------------------------------------------


def test_without_a_metric_the_last_checkpoint_is_released(record):
    edit(record, best_metric="", best_step=0)
    assert open_record(record).weights.parent.name == "step-00000120"


def test_released_checkpoint_that_is_gone_is_named(record):
    edit(record, best_step=77)
    with pytest.raises(RecordError, match=r"no checkpoint of step 77; the run must have finished"):
        open_record(record).weights  # noqa: B018


def test_unfinished_folders_are_no_checkpoints(record):
    before = open_record(record).checkpoints
    for name in (".step-00000130.new", ".step-00000130.old", "damaged-step-00000130", "step-x"):
        (record / "checkpoints" / name).mkdir()
    (record / "checkpoints" / "step-00000140").write_text("a file")
    assert open_record(record).checkpoints == before


# -- damage -------------------------------------------------------------------------------------------------------


def test_missing_meta_is_one_clear_error(record):
    (record / "run.json").unlink()
    with pytest.raises(RecordError, match=r"no run record here. Fix: name a folder that holds run\.json"):
        open_record(record)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": "1"}', "{}", "\udcff"])
def test_meta_that_is_no_record_is_one_clear_error(record, text):
    (record / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecordError) as caught:
        open_record(record)
    assert str(record) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("status", "paused"), ("seed", "three"), ("layers", [{"name": "w"}]), ("command", None)]
)
def test_bad_value_in_the_meta_is_named_by_its_key(record, key, value):
    edit(record, **{key: value})
    with pytest.raises(RecordError, match=rf"run\.json: {key}"):
        open_record(record)


def test_unknown_key_in_the_meta_is_ignored(record):
    edit(record, weather="fine")
    assert open_record(record).meta.status == "finished"


@pytest.mark.parametrize(
    ("name", "part"), [("trace.arrows", "trace"), ("probes.arrows", "probes"), ("evals.arrows", "evals")]
)
def test_log_with_other_columns_is_refused(record, name, part):
    table = pa.table({"step": pa.array([1, 2], pa.int32())})
    with pa.ipc.new_stream(str(record / name), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(RecordError, match=rf"{name} has other columns than its schema version"):
        getattr(open_record(record), part)


@pytest.mark.parametrize("part", ["trace", "probes", "evals"])
def test_missing_log_is_one_clear_error(record, part):
    (record / f"{part}.arrows").unlink()
    with pytest.raises(RecordError, match=rf"{part}\.arrows: no such file"):
        getattr(open_record(record), part)


def test_trace_of_another_network_is_refused(record):
    edit(record, layers=[])
    with pytest.raises(RecordError, match="other columns"):
        open_record(record).trace  # noqa: B018


def test_short_trace_is_refused_when_finished_and_read_when_not(record):
    write_trace(record, range(60))
    with pytest.raises(RecordError, match="holds 60 whole rows of 120"):
        open_record(record).trace  # noqa: B018
    edit(record, status="running")
    assert open_record(record).trace.num_rows == 60


def test_missing_scores_say_that_the_run_must_have_finished(record):
    (record / "scores.parquet").unlink()
    with pytest.raises(RecordError, match=r"no scores\.parquet; the run must have finished"):
        open_record(record).scores  # noqa: B018


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_scores_are_one_clear_error(record, keep):
    path = record / "scores.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError, match=r"scores\.parquet is damaged"):
        open_record(record).scores  # noqa: B018


def test_scores_keep_their_slices(record):
    table = pa.table({"id": [1], "label": [1.0], "score": [0.5], "country": ["AT"]})
    pq.write_table(table, record / "scores.parquet")
    assert open_record(record).scores.equals(table)


@pytest.mark.parametrize(
    "table", [pa.table({"sample": [1]}), pa.table({"sample": ["a"], "margin": [0.5], "count": [1]})]
)
def test_margins_with_other_columns_are_refused(record, table):
    pq.write_table(table, record / "margins.parquet")
    with pytest.raises(RecordError, match=r"margins\.parquet has other columns than its schema version"):
        open_record(record).margins  # noqa: B018


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_unreadable_metrics_are_one_clear_error(record, damage):
    (record / "metrics.json").unlink()
    if damage == "broken":
        (record / "metrics.json").write_text("{")
    with pytest.raises(RecordError, match=r"no readable metrics\.json"):
        open_record(record).metrics  # noqa: B018


@pytest.mark.parametrize("name", schema.EVIDENCE)
def test_part_that_is_not_what_the_run_left_is_refused(record, name):
    edit(record, files=final_digests(record))
    (record / name).write_bytes((record / name).read_bytes() + b"\n")
    with pytest.raises(RecordError, match=rf"{name} does not match the digest in run\.json"):
        getattr(open_record(record), name.partition(".")[0])
    assert open_record(record).changed_files() == [name]


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_checkpoint_whose_manifest_is_not_what_the_run_left_is_refused(record, damage):
    edit(record, files=final_digests(record))
    path = record / "checkpoints/step-00000120/manifest.json"
    path.write_text(path.read_text() + " ")
    if damage == "gone":
        shutil.rmtree(path.parent)
    assert open_record(record).changed_files() == ["checkpoints/step-00000120/manifest.json"]
    with pytest.raises(RecordError, match=r"step-00000120/manifest\.json"):
        open_record(record).verify()


def test_nulls_are_refused(record):
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist([{}], schema.EVAL_SCHEMA)])
    with pa.ipc.new_stream(str(record / "evals.arrows"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(RecordError, match="values are never null"):
        open_record(record).evals  # noqa: B018


def read_everything(path, reference):
    """Every reader in turn; returns how many refused."""
    record = open_record(path)
    readers = [
        lambda: record.trace,
        record.final_trace,
        lambda: record.probes,
        lambda: record.evals,
        lambda: record.scores,
        lambda: record.metrics,
        lambda: manifest.read_tensors(record.weights),
        lambda: [manifest.verify(folder) for folder in record.checkpoints],
        lambda: compare(path, reference).render(),
        lambda: compare(reference, path).to_json(),
    ]
    refused = []
    for read in readers:
        try:
            read()
        except SwitchbackError as error:
            refused.append(str(error))
    assert "\n" not in "".join(refused)
    return len(refused)


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        *schema.EVIDENCE,
        *(f"checkpoints/step-00000004/{name}" for name in (*manifest.FILES, "manifest.json")),
    ],
)
def test_damaged_bytes_are_read_or_refused_but_nothing_else(tiny, tmp_path, name):
    copy = shutil.copytree(tiny, tmp_path / "run")
    whole = (copy / name).read_bytes()
    random = Random(name)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random.choice([1, 1, 4])):
            at = random.randrange(len(data))
            data[at] = random.choice([data[at] ^ (1 << random.randrange(8)), random.randrange(256), 0, 255])
        (copy / name).write_bytes(data)
        with suppress(SwitchbackError):
            read_everything(copy, tiny)
    (copy / name).write_bytes(whole)
    assert read_everything(copy, tiny) == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The smallest record with every part; its run.json vouches for nothing, so that damage reaches the readers."""
    record = toy.train(tmp_path_factory.mktemp("tiny") / "run", steps=4, keep=1)
    edit(record, files={})
    return record
