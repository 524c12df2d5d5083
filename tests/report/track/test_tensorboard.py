"""What TensorBoard's own readers find in our event files, against the record."""

import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ci_tools.errors import DependencyUnavailable, RecordError, RecordLocked, explain
from ci_tools.record import open_record
from ci_tools.report.track.tensorboard import SCALARS, buckets, export
from tests.report.track.written import LAYERS, STARTED, Written, finished

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util.tensor_util import make_ndarray

ROOT = Path(__file__).parents[3]
ALL = {"scalars": 0, "tensors": 0, "histograms": 0, "images": 0, "audio": 0, "graph": 0}


def shown(out):
    """Run to tag to a list of (step, wall time, value), as TensorBoard's backend reads the folder."""
    runs = EventMultiplexer(size_guidance=ALL, tensor_size_guidance=dict.fromkeys(("scalars", "histograms", "text"), 0))
    runs.AddRunsFromDirectory(str(out))
    runs.Reload()
    return {
        run: {
            tag: [(e.step, e.wall_time, make_ndarray(e.tensor_proto)) for e in runs.Tensors(run, tag)]
            for tag in tags["tensors"]
        }
        for run, tags in runs.Runs().items()
    }


def values(events):
    return [value.item() for _, _, value in events]


def steps(events):
    return [step for step, _, _ in events]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("record") / "seed-1", energy_joules=2.5)


@pytest.fixture(scope="module")
def run(record, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    export(record, out, live=False)
    return shown(out)["seed-1"]


def test_every_step_of_every_column_equals_the_record(record, run):
    trace = open_record(record).trace
    for column, tag in SCALARS.items():
        assert steps(run[tag]) == trace.column("step").to_pylist()
        expected = trace.column(column).to_numpy().astype(np.float32)
        np.testing.assert_array_equal(np.array(values(run[tag]), np.float32), expected, err_msg=tag)
    assert not np.isfinite(values(run["training/loss"])).all(), "the record should hold NaN and infinities"


def test_every_step_of_every_layer_equals_the_record(record, run):
    trace = open_record(record).trace
    for i, layer in enumerate(LAYERS):
        expected = [row[i] for row in trace.column("grad_rms").to_pylist()]
        assert values(run[f"gradients/rms/{layer}"]) == expected


def test_probes_equal_the_record(record, run):
    probes = open_record(record).probes
    for i, layer in enumerate(LAYERS):
        for column, tag in (("update_ratio", "updates/ratio"), ("dead_share", "units/dead_share")):
            assert steps(run[f"{tag}/{layer}"]) == probes.column("step").to_pylist()
            assert values(run[f"{tag}/{layer}"]) == [row[i] for row in probes.column(column).to_pylist()]
    assert values(run["noise/gradient_variance"]) == [2.5] * probes.num_rows


def test_evaluations_stand_at_the_steps_completed(record, run):
    for metric in ("loss", "accuracy"):
        rows = [row for row in open_record(record).evals.to_pylist() if row["metric"] == metric]
        events = run[f"evaluation/validation/{metric}"]
        assert steps(events) == [row["step"] for row in rows] == [20, 40, 60]
        assert values(events) == [np.float32(row["value"]).item() for row in rows]


def test_shadow_steps_equal_the_record(record, run):
    shadows = open_record(record).shadows
    for i, layer in enumerate(LAYERS):
        assert steps(run[f"numerics/error/{layer}"]) == shadows.column("step").to_pylist() == [20, 40, 60]
        assert values(run[f"numerics/error/{layer}"]) == [row[i] for row in shadows.column("error").to_pylist()]


def test_histograms_hold_the_documented_bins(record, run):
    probes = open_record(record).probes.to_pylist()
    for i, layer in enumerate(LAYERS):
        events = run[f"gradients/magnitude/{layer}"]
        assert steps(events) == [probe["step"] for probe in probes]
        for (_, _, table), probe in zip(events, probes, strict=True):
            found = {(left, right): count for left, right, count in table.tolist()}
            for k, count in enumerate(probe["histogram"][i]):
                left = 0.0 if k == 0 else 2.0 ** (k - 28)
                right = 20.0 + probe["step"] if k == 31 else 2.0 ** (k - 27)
                assert found.pop((left, right), 0) == count, k
            assert not found


def test_buckets_leave_out_empty_ends_and_keep_empty_ones_between():
    counts = [0] * 32
    counts[10], counts[12] = 3, 4
    assert buckets(counts, 1.0).tolist() == [[2**-18, 2**-17, 3], [2**-17, 2**-16, 0], [2**-16, 2**-15, 4]]


def test_gradient_of_zeros_is_one_bucket_at_zero():
    assert buckets([7] + [0] * 31, 0.0).tolist() == [[0.0, 2**-27, 7]]


@pytest.mark.parametrize("largest", [math.inf, math.nan])
def test_gradient_that_is_not_finite_ends_at_a_power_of_two(largest):
    assert buckets([0] * 31 + [5], largest).tolist() == [[8.0, 16.0, 5]]


def test_histogram_of_nothing_is_empty():
    assert buckets([0] * 32, 0.0).shape == (0, 3)


def test_config_and_outcome_are_literal_text(run):
    for tag, key, value in (
        ("config", "params", {"lr": 0.1, "text": "<b>*bold*</b>\ud800"}),
        ("outcome", "status", "finished"),
        ("outcome", "energy_joules", 2.5),
    ):
        text = run[tag][0][2].item().decode()
        assert all(line.startswith("    ") for line in text.splitlines()), "Markdown shows it as it is"
        assert json.loads(text)[key] == value


def test_times_are_the_start_and_the_durations_so_far(run):
    started = 1795255200.0  # 2026-11-21T10:00:00+00:00
    assert STARTED == "2026-11-21T10:00:00+00:00"
    times = [when for _, when, _ in run["training/loss"]]
    assert times == [started + 0.25 * (step + 1) for step in range(60)]
    assert [when for _, when, _ in run["evaluation/validation/loss"]] == [times[19], times[39], times[59]]


def test_repeated_call_doubles_nothing_and_deletes_nothing_else(record, tmp_path):
    export(record, tmp_path, live=False)
    foreign = tmp_path / "seed-1" / "events.out.tfevents.1.of-somebody-else"
    foreign.write_bytes(b"")
    export(record, tmp_path, live=False)
    ours = [path for path in foreign.parent.iterdir() if path != foreign]
    assert len(ours) == 1
    assert foreign.exists()
    assert steps(shown(tmp_path)["seed-1"]["training/loss"]) == list(range(60))


def test_tensorboard_that_has_read_the_first_export_shows_the_second_once(record, tmp_path):
    runs = EventMultiplexer(size_guidance=ALL, tensor_size_guidance={"scalars": 0})
    for _ in range(2):
        export(record, tmp_path, live=False)
        runs.AddRunsFromDirectory(str(tmp_path))
        runs.Reload()
    assert [event.step for event in runs.Tensors("seed-1", "training/loss")] == list(range(60))


def test_each_attempt_is_a_run_of_its_own(tmp_path):
    run = Written(tmp_path / "record")
    run.steps(0, 50)
    run.note(recoveries=[{"onset_step": 45, "from_step": 30, "reason": "loss is nan"}])
    run.steps(30, 60, attempt=1)
    run.end()
    export(run.folder, tmp_path / "out", live=False)
    found = shown(tmp_path / "out")
    assert steps(found["record"]["training/loss"]) == list(range(50))
    assert steps(found["record/attempt-1"]["training/loss"]) == list(range(30, 60))
    assert steps(found["record/attempt-1"]["evaluation/validation/loss"]) == [40, 60]
    rows = open_record(run.folder).trace.to_pylist()
    assert values(found["record/attempt-1"]["training/loss"]) == [row["loss"] for row in rows if row["attempt"]]


HOSTILE = ["a\nb", "\u202egnp.exe", "</script><img src=x>", "half \ud800", "x" * 5000, "x" * 5001, "a/../../b"]


def test_hostile_names_become_printable_and_stay_apart(tmp_path):
    record = finished(tmp_path / "record", layers=HOSTILE, metrics=["m\x00\x1b[31m", "m\x00\x1b[32m"])
    export(record, tmp_path / "out", live=False)
    tags = shown(tmp_path / "out")["record"]
    names = [tag.removeprefix("gradients/rms/") for tag in tags if tag.startswith("gradients/rms/")]
    assert len(names) == len(HOSTILE)
    assert len([tag for tag in tags if tag.startswith("evaluation/")]) == 2
    assert all(tag.isprintable() and len(tag) < 200 for tag in tags)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".record.lock", "record"]


def test_unfinished_record_gives_its_whole_rows(tmp_path):
    run = Written(tmp_path / "record")
    run.steps(0, 32)
    run.steps(32, 48)
    with (run.folder / "trace.arrows").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 100)
    run.end("running", ended="")
    export(run.folder, tmp_path / "out", live=False)
    found = shown(tmp_path / "out")["record"]
    assert steps(found["training/loss"]) == list(range(32))
    assert steps(found["evaluation/validation/loss"]) == [20, 40], "kept, though the step's own row is torn"


def test_live_export_shows_steps_while_they_are_written(tmp_path, training_process):
    record, out = tmp_path / "record", tmp_path / "out"
    with ThreadPoolExecutor(1) as pool, training_process(record) as ask:
        ask("steps", 0, 16)
        exported = pool.submit(export, record, out, True)
        await_steps(out, 16)
        ask("steps", 16, 32)
        await_steps(out, 32)
        assert not exported.done()
        ask("end")
        exported.result(timeout=60)
    export(record, tmp_path / "after", live=False)
    assert repr(shown(out)["record"]["training/loss"]) == repr(shown(tmp_path / "after")["record"]["training/loss"])
    assert shown(out)["record"].keys() == shown(tmp_path / "after")["record"].keys()


def await_steps(out, count):
    for _ in range(600):
        if len(shown(out).get("record", {}).get("training/loss", [])) == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"{count} steps never came")


def test_folder_has_one_exporter(record, tmp_path):
    from ci_tools.record.lock import RecordLock

    lock = RecordLock(tmp_path / "seed-1")
    lock.acquire()
    with pytest.raises(RecordLocked):
        export(record, tmp_path, live=False)
    lock.release()


def test_missing_record_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(RecordError, match="no run record here"):
        export(tmp_path / "nowhere", tmp_path / "out", live=False)
    assert not (tmp_path / "out").exists()


def test_missing_package_is_named(record, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        export(record, tmp_path, live=False)
    failure = explain(missing.value)
    assert isinstance(failure, DependencyUnavailable)
    assert "tensorboard" in str(failure)


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from pathlib import Path
from ci_tools.report.track.tensorboard import export
assert "torch" not in sys.modules
try:
    export(Path(sys.argv[1]), Path(sys.argv[2]), False)
except OSError as error:
    sys.exit(f"{error.strerror}")
"""


def test_full_disk_ends_the_export_with_its_reason(record, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(record), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stderr.strip().splitlines()[-1] == "File too large"
    assert done.returncode == 1


def test_file_says_that_it_starts_over(record, tmp_path):
    folder = export(record, tmp_path, live=False)
    (path,) = folder.iterdir()
    first, second, *_ = LegacyEventFileLoader(str(path)).Load()
    assert first.file_version == "brain.Event:2"
    assert second.session_log.status == second.session_log.START
