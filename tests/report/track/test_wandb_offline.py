"""What the real client writes without a key, read back record by record, and sent later by `wandb sync`."""

import base64
import errno
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ci_tools.errors import DependencyUnavailable, RecordError
from ci_tools.gates import files
from ci_tools.record.reader import open_record
from ci_tools.report.track import kept
from ci_tools.report.track.follow import follow
from ci_tools.report.track.history import Histogram, History
from ci_tools.report.track.session import Client
from tests.report.track import project
from tests.report.track.backend import Backend
from tests.report.track.journal import Journal
from tests.report.track.written import Written

CLIENT_S_OWN = {"_step", "_runtime", "_timestamp"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = project.make(tmp_path_factory.mktemp("offline"))
    told = project.tell(root)
    assert (list(told.runs), told.warnings, told.report) == (["seed-1", "gate"], [], "")
    return root


@pytest.fixture(scope="module")
def journals(root):
    return {name: Journal(root / entry.folder) for name, entry in kept.read(root).runs.items()}


@pytest.fixture(scope="module")
def points(root):
    (look,) = follow(root / "runs/seed-1")
    return list(History(look.meta).add(look))


def as_logged(value):
    if isinstance(value, Histogram):
        return {"_type": "histogram", "values": value.counts, "bins": value.edges}
    return value


def same(a, b):
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_every_step_is_there_with_every_value(journals, points):
    history = journals["seed-1"].history
    assert [row["_step"] for row in history] == [point.number for point in points] == list(range(60))
    for row, point in zip(history, points, strict=True):
        assert row.keys() - CLIENT_S_OWN == point.values.keys()
        assert row["_timestamp"] == point.at
        for name, value in point.values.items():
            assert same(row[name], as_logged(value)), (point.number, name)


def test_values_that_are_not_finite_arrive_as_they_are(journals):
    losses = [row["training/loss"] for row in journals["seed-1"].history[7:10]]
    assert math.isnan(losses[0])
    assert losses[1:] == [math.inf, -math.inf]


def test_config_is_the_record_s(root, journals):
    meta, config = open_record(root / "runs/seed-1").meta, journals["seed-1"].config
    told = json.loads(meta.text())
    for key in ("seed", "params_digest", "git_commit", "data", "fingerprint", "precision", "total_steps"):
        assert config[key] == told[key], key
    assert config["params"]["lr"] == told["params"]["lr"]
    assert config["record"] == meta.id


def test_run_is_named_grouped_and_tagged(journals):
    run = journals["seed-1"].run
    assert (run.run_id, run.display_name, run.job_type) == ("0123456789ab", "seed-1", "train")
    assert (run.run_group, run.git.commit) == ("c" * 12, "c" * 40)
    assert list(run.tags) == ["finished", "seed-3"]
    assert journals["gate"].run.job_type == "gate"
    assert journals["gate"].run.run_group == run.run_group


def test_outcome_is_in_the_summary(journals):
    assert journals["seed-1"].summary["status"] == "finished"
    assert journals["seed-1"].exit_code == 0
    assert journals["gate"].exit_code == 1
    gate = journals["gate"].summary
    assert (gate["gates/outcome"], gate["gates/failed"], gate["gates/error"]) == ("failed", 1, 0)
    assert gate["evaluation/release.roc_auc"] == 0.5


def test_table_holds_the_verdicts(root, journals):
    (row,) = journals["gate"].history
    table = json.loads((journals["gate"].folder / "files" / row["gates/verdicts"]["path"]).read_text())
    verdicts = files.read(root / "gates/verdicts.json").verdicts
    assert len(table["data"]) == len(verdicts) == 3
    for values, verdict in zip(table["data"], verdicts, strict=True):
        told = dict(zip(table["columns"], values, strict=True))
        assert (told["gate"], told["subject"], told["outcome"]) == (verdict.gate, verdict.subject, verdict.outcome)
        assert (told["statistic"], told["threshold"]) == (verdict.statistic, verdict.threshold)
        assert json.loads(told["evidence"]) == {"step": 12, "worst": "inf"}
    assert [row[5:7] for row in table["data"]] == [[None, None], [None, None], [0.5, None]]


def test_page_is_there_as_it_was(root, journals):
    (row,) = journals["gate"].history
    sent = (journals["gate"].folder / "files" / row["report"]["path"]).read_text()
    assert sent == (root / "report/index.html").read_text()


def test_artifacts_hold_the_very_files(root, journals):
    record = open_record(root / "runs/seed-1")
    expected = {
        "record-seed-1": {name: record.path / name for name in ("run.json", *record.meta.files)},
        "model-seed-1": {"model.safetensors": record.weights},
        "verdicts": {"verdicts.json": root / "gates/verdicts.json"},
        "exported-model": {"model.onnx": root / "export/model.onnx", "parity.json": root / "export/parity.json"},
    }
    found = journals["seed-1"].artifacts | journals["gate"].artifacts
    for name, paths in expected.items():
        contents = {entry.path: entry for entry in found[name].manifest.contents}
        assert contents.keys() == paths.keys(), name
        for inside, path in paths.items():
            digest = base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
            assert contents[inside].digest == digest
            assert Path(contents[inside].local_path).read_bytes() == path.read_bytes()


def test_lineage_says_what_went_in_and_what_came_out(journals):
    def uses(journal):
        return {name: one.use_after_commit for name, one in journal.artifacts.items() if one.type != "run_table"}

    assert uses(journals["seed-1"]) == {"dataset": True, "record-seed-1": False, "model-seed-1": False}
    assert uses(journals["gate"]) == {"record-seed-1": True, "verdicts": False, "exported-model": False}


def test_no_row_of_the_data_leaves_the_machine_but_its_digest(journals):
    (entry,) = journals["seed-1"].artifacts["dataset"].manifest.contents
    assert json.loads(Path(entry.local_path).read_text()) == {"data/train.npz": "0" * 64}


def test_told_again_nothing_is_written(root, journals):
    before = sorted(root.glob("wandb/**/*"))
    again = project.tell(root)
    assert {name: entry.folder for name, entry in again.runs.items()} == {
        name: entry.folder for name, entry in kept.read(root).runs.items()
    }
    assert sorted(root.glob("wandb/**/*")) == before


def test_wandb_sync_sends_all_of_it_later(root, journals, points):
    backend = Backend().start()
    with project.surroundings(root, backend):
        command = [sys.executable, "-m", "wandb", "sync", "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    backend.stop()
    assert done.returncode == 0, done.stderr
    assert backend.unknown == []
    run = backend.runs["0123456789ab"]
    assert [row["_step"] for row in run.history] == list(range(60))
    assert all(
        same(row["training/loss"], p.values["training/loss"]) for row, p in zip(run.history, points, strict=True)
    )
    assert run.config["params"]["lr"] == 0.1
    assert {one.name for one in backend.artifacts if one.state == "COMMITTED"} >= {"record-seed-1", "model-seed-1"}
    assert backend.artifact("record-seed-1").used_by == [kept.read(root).runs["gate"].id]
    assert backend.artifact("model-seed-1").files == {"model.safetensors": b"weights"}
    assert backend.artifact("dataset").used_by == ["0123456789ab"]


def test_full_disk_is_noticed_and_leaves_no_half_of_a_run(tmp_path):
    """A limit on the size of files stands in for it: W&B's client drops what it cannot write without a word."""
    root = project.make(tmp_path / "root", verdicts=None)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        told = project.tell(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    assert told.runs == {}
    assert "data for W&B cannot be kept (the disk took 0 of 60 rows). Fix: make room there" in told.warnings[0]
    assert not list(root.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("code", "fix"),
    [(errno.ENOSPC, "make room there"), (errno.EDQUOT, "make room there"), (errno.EACCES, "see to that")],
)
def test_only_a_full_disk_is_told_to_need_room(tmp_path, monkeypatch, code, fix):
    def refuse(**_):
        raise RuntimeError("the client failed") from OSError(code, os.strerror(code))

    with project.surroundings(tmp_path):
        client = Client(tmp_path)
        monkeypatch.setattr(client, "_init", refuse)
        with pytest.raises(DependencyUnavailable, match=f"the client failed.*Fix: {fix}"):
            client.offline_run()


def test_record_whose_id_is_none_is_refused_as_such(tmp_path):
    root = project.make(tmp_path / "root", verdicts=None)
    path = root / "runs/seed-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id": "a/b"}))
    with pytest.raises(RecordError, match="'a/b' is no id; an id has 12 hex digits"):
        project.tell(root)


def test_run_that_was_resumed_meanwhile_supersedes_what_was_kept(tmp_path):
    root = project.make(tmp_path / "root", verdicts=None)
    shutil.rmtree(root / "runs")
    run = Written(root / "runs/seed-1")
    run.steps(0, 20)
    first = root / project.tell(root).runs["seed-1"].folder
    run.steps(20, 40)
    run.end("preempted")
    second = root / project.tell(root).runs["seed-1"].folder
    assert first != second
    assert len(Journal(second).history) == 40
    assert (first / "run-0123456789ab.wandb.synced").exists()
    assert not (second / "run-0123456789ab.wandb.synced").exists()


@pytest.mark.parametrize("outcome", ["other params", "none"])
def test_verdicts_on_something_else_are_not_told(tmp_path, outcome):
    root = project.make(tmp_path / "root")
    if outcome == "none":
        (root / "gates/verdicts.json").unlink()
    else:
        files.write(replace(project.VERDICTS, params_digest="0" * 64), root / "gates/verdicts.json")
    assert list(project.tell(root).runs) == ["seed-1"]
