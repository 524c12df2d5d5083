"""The metrics file, read back by Prometheus' own parser, against the record."""

import math
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ci_tools.errors import ConfigError, DataError, RecordError
from ci_tools.gates import files
from ci_tools.gates.files import Verdicts
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record import open_record
from ci_tools.report.track import prometheus
from ci_tools.report.track.prometheus import STEP_SECONDS, export
from tests.report.track.test_tensorboard import HOSTILE
from tests.report.track.written import Written, finished

parser = pytest.importorskip("prometheus_client.parser")
DOCUMENT = (Path(__file__).parents[3] / "docs/track.md").read_text()
RUN = "0123456789ab"
PROMTOOL = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def families(path):
    return {family.name: family for family in parser.text_string_to_metric_families(path.read_text(encoding="utf-8"))}


def samples(path):
    """Sample's name and labels, the run's left out, to its value."""
    found = {}
    for family in families(path).values():
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "run"}
            assert sample.labels["run"] == RUN
            key = (sample.name, *sorted(labels.items()))
            assert key not in found, "Prometheus refuses a series that stands there twice"
            found[key] = sample.value
    return found


def scrape(record, tmp_path):
    return samples(export(record, tmp_path / "metrics" / "run.prom", live=False))


def verdict(gate, outcome, subject="", blocks=False):
    return Verdict(
        gate=gate, subject=subject, outcome=outcome, blocks=blocks, statistic=1.0, interval=None, threshold=2.0,
        unit="", basis="", diagnosis="", remedy="", evidence={}, seconds=0.0,
    )  # fmt: skip


def judge(root, *verdicts, started="2026-11-21T10:06:00+00:00", params_digest="d" * 64, **more):
    """Write verdicts beside the records under `root`."""
    judged = Verdicts(
        commit="c" * 40, dirty=False, params_digest=params_digest, policy_digest="", started=started,
        verdicts=verdicts, **more,
    )  # fmt: skip
    files.write(judged, root / "gates/verdicts.json")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("root") / "runs" / "seed-1", energy_joules=2.5)


@pytest.fixture
def root(record, tmp_path):
    """A repository with the record in it."""
    shutil.copytree(record, tmp_path / "runs" / "seed-1")
    return tmp_path


def test_newest_step_totals_and_energy_equal_the_record(record, tmp_path):
    found, trace = scrape(record, tmp_path), open_record(record).trace.to_pylist()
    newest = trace[-1]
    assert found["switchback_run_loss",] == newest["loss"]
    assert found["switchback_run_learning_rate",] == newest["lr"]
    assert found["switchback_run_gradient_norm",] == newest["grad_norm"]
    assert found["switchback_run_completed_steps",] == found["switchback_run_planned_steps",] == 60
    assert found["switchback_run_steps_total",] == len(trace) == 60
    assert found["switchback_run_nonfinite_gradients_total",] == sum(row["nonfinite"] for row in trace) == 2
    assert found["switchback_run_energy_joules_total",] == 2.5
    assert found["switchback_run_start_timestamp_seconds",] == 1795255200
    assert found["switchback_run_end_timestamp_seconds",] == 1795255500


def test_run_is_identified_once(record, tmp_path):
    found = scrape(record, tmp_path)
    about = [dict(key[1:]) for key in found if key[0] == "switchback_run_info"]
    assert about == [
        {"commit": "c" * 40, "dirty": "false", "params_digest": "d" * 64, "precision": "float32", "seed": "3"}
    ]


def test_status_is_one_of_all(record, tmp_path):
    found = scrape(record, tmp_path)
    states = {key[1][1]: value for key, value in found.items() if key[0] == "switchback_run_status"}
    assert states == dict.fromkeys(("running", "failed", "crashed", "preempted", "replayed"), 0) | {"finished": 1}


def test_evaluations_are_the_newest_of_each_split_and_metric(record, tmp_path):
    found = scrape(record, tmp_path)
    for row in open_record(record).evals.to_pylist():
        if row["step"] == 60:
            key = ("switchback_run_evaluation", ("metric", row["metric"]), ("split", row["split"]))
            assert found[key] == row["value"]


def test_step_durations_are_a_histogram_in_seconds(tmp_path):
    run = Written(tmp_path / "record")
    run.steps(0, 40)
    run.end()
    found = scrape(run.folder, tmp_path)
    step_seconds = open_record(run.folder).trace.column("step_ms").to_numpy() / 1e3
    for edge in (*STEP_SECONDS, math.inf):
        le = "+Inf" if edge == math.inf else repr(edge)
        assert found["switchback_run_step_duration_seconds_bucket", ("le", le)] == (step_seconds <= edge).sum()
    assert found["switchback_run_step_duration_seconds_count",] == 40
    assert found["switchback_run_step_duration_seconds_sum",] == pytest.approx(step_seconds.sum())


def test_names_and_types_follow_the_conventions(root):
    judge(root, verdict("divergence", Outcome.PASSED))
    for family in families(export(root / "runs/seed-1", root / "run.prom", live=False)).values():
        assert family.name.startswith("switchback_")
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == any(sample.name.endswith("_total") for sample in family.samples)
        assert not {"created", "ms", "milliseconds"} & set(family.name.split("_")), (
            "base units, nothing of the client's"
        )


@pytest.mark.skipif(PROMTOOL is None, reason="tests/report/track/get_promtool fetches promtool")
@pytest.mark.parametrize("names", [("loss",), HOSTILE], ids=["plain", "hostile"])
def test_promtool_finds_nothing_to_say(names, tmp_path):
    record = finished(tmp_path / "runs/seed-1", metrics=[name.encode(errors="replace").decode() for name in names])
    judge(tmp_path, *(verdict(name.encode(errors="replace").decode(), Outcome.FAILED) for name in names))
    text = export(record, tmp_path / "run.prom", live=False).read_bytes()
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_document_lists_the_metrics(root):
    judge(root, verdict("divergence", Outcome.PASSED))
    found = families(export(root / "runs/seed-1", root / "run.prom", live=False)).values()
    table = [line.split("|")[1:3] for line in DOCUMENT.splitlines() if line.startswith("| `switchback_")]
    listed = {(name, kind.strip()) for names, kind in table for name in re.findall(r"`(\w+)`", names)}
    assert listed == {(one.name + "_total" * (one.type == "counter"), one.type) for one in found}


@pytest.mark.skipif(PROMTOOL is None, reason="tests/report/track/get_promtool fetches promtool")
def test_documented_rules_are_valid_and_name_metrics_that_exist(tmp_path):
    (rules,) = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.yaml").write_text(rules)
    done = subprocess.run([PROMTOOL, "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = set(re.findall(r"switchback_\w+", rules))
    assert used <= set(re.findall(r"^\| `(\w+)`", DOCUMENT, re.MULTILINE))


def test_loss_that_is_not_finite_is_told_as_it_is(tmp_path):
    run = Written(tmp_path / "record")
    run.steps(0, 8)
    run.end(status="failed")
    assert math.isnan(scrape(run.folder, tmp_path)["switchback_run_loss",])


def test_run_without_a_step_has_no_loss_and_no_energy(tmp_path):
    run = Written(tmp_path / "record")
    found = scrape(run.folder, tmp_path)
    assert not {("switchback_run_loss",), ("switchback_run_energy_joules_total",)} & found.keys()
    assert found["switchback_run_steps_total",] == 0
    run.end("running", ended="")


def test_abandoned_steps_count_as_taken_but_not_as_completed(tmp_path):
    run = Written(tmp_path / "record")
    run.steps(0, 50)
    run.note(recoveries=[{"onset_step": 45, "from_step": 30, "reason": "loss is nan"}])
    run.steps(30, 40, attempt=1)
    run.end()
    found = scrape(run.folder, tmp_path)
    assert found["switchback_run_completed_steps",] == 40
    assert found["switchback_run_steps_total",] == 60
    assert found["switchback_run_recoveries_total",] == 1


# -- verdicts ----------------------------------------------------------------------------------------------------


def outcomes(found):
    return {
        dict(key[1:])["gate"]: dict(key[1:])["outcome"]
        for key, value in found.items()
        if key[0] == "switchback_gate_outcome" and value
    }


def test_verdicts_on_the_run_are_told(root):
    judge(
        root,
        verdict("divergence", Outcome.PASSED, "seed-1"),
        verdict("quality_floor", Outcome.FAILED, "loss", blocks=True),
        pending=(verdict("no_pickle", Outcome.ERROR),),
    )
    found = scrape(root / "runs/seed-1", root)
    assert outcomes(found) == {"divergence": "passed", "quality_floor": "failed", "no_pickle": "error"}
    blocks = {dict(key[1:])["gate"]: value for key, value in found.items() if key[0] == "switchback_gate_blocks"}
    assert blocks == {"divergence": 0, "quality_floor": 1, "no_pickle": 0}


def test_worst_of_two_verdicts_on_the_same_counts(root):
    judge(root, verdict("plateau", Outcome.FAILED, blocks=True), verdict("plateau", Outcome.PASSED))
    assert outcomes(scrape(root / "runs/seed-1", root)) == {"plateau": "failed"}


@pytest.mark.parametrize(
    "other",
    [{"params_digest": "e" * 64}, {"started": "2026-11-21T10:01:00+00:00"}, {"refused": True}],
    ids=["other params", "older than the run", "refused"],
)
def test_verdicts_that_are_not_about_this_run_are_not_told(root, other):
    judge(root, verdict("divergence", Outcome.FAILED), **other)
    assert outcomes(scrape(root / "runs/seed-1", root)) == {}


def test_damaged_verdicts_are_refused(root):
    (root / "gates").mkdir()
    (root / "gates/verdicts.json").write_text('{"schema_version": 1}')
    with pytest.raises(DataError, match="verdicts"):
        scrape(root / "runs/seed-1", root)


# -- hostile and missing -----------------------------------------------------------------------------------------


def test_hostile_labels_cannot_leave_their_quotes(tmp_path):
    hostile = ['"} 1\nswitchback_run_loss{run="forged"} 0', "\\", 'a\\"b', "\r", "\u2028", "x" * 5000, "x" * 5001, "é"]
    record = finished(tmp_path / "runs/seed-1", metrics=hostile)
    judge(tmp_path, *(verdict(name, Outcome.FAILED, subject=name) for name in hostile))
    out = export(record, tmp_path / "run.prom", live=False)
    found = samples(out)
    metrics = {dict(key[1:])["metric"] for key in found if key[0] == "switchback_run_evaluation"}
    assert len(metrics) == len(outcomes(found)) == len(hostile)
    assert {"\\", 'a\\"b', "é"} <= metrics
    assert all(
        line.startswith(("switchback_", "# HELP ", "# TYPE ")) for line in out.read_text("utf-8").split("\n")[:-1]
    )
    assert all(len(metric) <= 120 and metric.isprintable() for metric in metrics)


def test_file_that_node_exporter_would_not_read_is_refused(record, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.prom"):
        export(record, tmp_path / "run.txt", live=False)


def test_missing_record_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(RecordError, match="no run record here"):
        export(tmp_path / "nowhere", tmp_path / "run.prom", live=False)
    assert list(tmp_path.iterdir()) == []


# -- while training runs -----------------------------------------------------------------------------------------


def test_live_metrics_follow_the_run_and_a_reader_never_sees_half_a_file(tmp_path, training_process, monkeypatch):
    monkeypatch.setattr(prometheus, "EVERY", 0.0)
    record, out = tmp_path / "record", tmp_path / "run.prom"
    with ThreadPoolExecutor(1) as pool, training_process(record) as ask:
        ask("steps", 0, 16)
        exported = pool.submit(export, record, out, True)
        await_steps(out, 16)
        assert samples(out)["switchback_run_status", ("status", "running")] == 1
        ask("steps", 16, 48)
        await_steps(out, 48)
        ask("end", "preempted")
        exported.result(timeout=60)
    assert samples(out)["switchback_run_status", ("status", "preempted")] == 1
    export(record, tmp_path / "after.prom", live=False)
    assert out.read_bytes() == (tmp_path / "after.prom").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"record", ".record.lock", "run.prom", "after.prom"}


def await_steps(out, count):
    for _ in range(600):
        if out.exists() and samples(out)["switchback_run_steps_total",] == count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{count} steps never came")


def test_file_is_written_at_most_once_per_interval_and_at_the_end(tmp_path, monkeypatch):
    run = Written(tmp_path / "record")
    run.steps(0, 4)
    seen, out = [], tmp_path / "run.prom"

    def stop():
        seen.append(samples(out)["switchback_run_steps_total",] if out.exists() else None)
        if len(seen) < 4:
            run.steps(4 * len(seen), 4 * len(seen) + 4)
        return len(seen) == 4

    monkeypatch.setattr(prometheus, "EVERY", 3600.0)
    export(run.folder, out, live=True, stop=stop)
    assert seen == [None, 8, 8, 8]
    assert samples(out)["switchback_run_steps_total",] == 16
    run.end("running", ended="")
