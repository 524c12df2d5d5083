"""The real client against a stand-in for W&B's servers: what arrives, and what happens when the servers fail."""

import json
import re
import shutil
import socket
import threading
import time

import pytest

from ci_tools.record.reader import open_record
from ci_tools.report.track import kept
from ci_tools.report.track.command import track
from ci_tools.report.track.session import Client
from tests.report.track import project
from tests.report.track.backend import KEY, Backend
from tests.report.track.written import Written

RECORD = "0123456789ab"


@pytest.fixture(scope="module")
def backend():
    backend = Backend().start()
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def root(tmp_path_factory, backend):
    root = project.make(tmp_path_factory.mktemp("online"))
    told = project.tell(root, backend, WANDB_PROJECT="risk", GITHUB_REF="refs/pull/7/merge")
    assert told.warnings == []
    return root


@pytest.fixture
def other(tmp_path):
    """A repository and a backend that nothing was told yet."""
    backend = Backend().start()
    yield project.make(tmp_path / "other", verdicts=None), backend
    if backend.alive:
        backend.stop()


def test_every_step_arrives_once_and_exactly(root, backend):
    history = backend.runs[RECORD].history
    trace = open_record(root / "runs/seed-1").trace.to_pylist()
    assert [row["_step"] for row in history] == [row["step"] for row in trace] == list(range(60))
    assert [repr(row["training/loss"]) for row in history] == [repr(row["loss"]) for row in trace]
    assert history[9]["gradients/log2_magnitude/head.bias"]["bins"] == list(range(-28, 5))


def test_run_arrives_with_its_group_job_type_tags_and_config(root, backend):
    run, gate = backend.runs[RECORD], backend.runs[kept.read(root).runs["gate"].id]
    assert (run.project, run.about["groupName"], run.about["jobType"]) == ("risk", "pull-request-7", "train")
    assert (gate.project, gate.about["groupName"], gate.about["jobType"]) == ("risk", "pull-request-7", "gate")
    assert run.about["tags"] == ["finished", "seed-3"]
    assert run.about["commit"] == "c" * 40
    assert run.config["params"]["lr"] == 0.1
    assert (run.exit_code, gate.exit_code) == (0, 1)
    assert run.summary["status"] == "finished"


def test_table_and_page_arrive_as_files(root, backend):
    files = backend.runs[kept.read(root).runs["gate"].id].files
    (table,) = [json.loads(content) for name, content in files.items() if name.endswith(".table.json")]
    assert [row[:3] for row in table["data"]][1] == ["drift", "<img src=x> @everyone", "failed"]
    assert (root / "report/index.html").read_bytes() in files.values()


def test_artifacts_arrive_with_their_bytes_and_lineage(root, backend):
    record, gate = root / "runs/seed-1", kept.read(root).runs["gate"].id
    sent = {one.name: one for one in backend.artifacts}
    assert all(one.state == "COMMITTED" for one in sent.values())
    assert sent["record-seed-1"].files["trace.arrows"] == (record / "trace.arrows").read_bytes()
    assert (sent["record-seed-1"].run, sent["record-seed-1"].used_by) == (RECORD, [gate])
    assert (sent["model-seed-1"].files, sent["model-seed-1"].run) == ({"model.safetensors": b"weights"}, RECORD)
    assert (sent["dataset"].run, sent["dataset"].used_by) == (None, [RECORD])
    assert sent["exported-model"].manifest["contents"].keys() == {"model.onnx", "parity.json"}


def test_report_shows_the_group(backend, root):
    (view,) = backend.views
    assert view["displayName"] == "Switchback-pull-request-7"
    (grid,) = [block for block in json.loads(view["spec"])["blocks"] if block["type"] == "panel-grid"]
    (condition,) = grid["metadata"]["runSets"][0]["filters"]["filters"]
    assert (condition["key"]["name"], condition["value"]) == ("group", "pull-request-7")
    assert kept.read(root).report == f"{backend.url}/team/risk/reports/Switchback-pull-request-7--view1"


def test_addresses_are_left_for_the_comment(backend, root):
    left = json.loads((root / "report/wandb.json").read_text())
    assert left["run"] == f"{backend.url}/team/risk/runs/{left['runs']['gate']['id']}"
    assert left["runs"]["seed-1"]["url"] == f"{backend.url}/team/risk/runs/{RECORD}"


def test_nothing_tells_of_the_machine(backend, root):
    told = json.dumps([[run.about, run.config, run.summary] for run in backend.runs.values()])
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", told)  # a short name is inside of any random id
    assert str(root) not in told
    assert all(run.about.get("host") in (None, "") for run in backend.runs.values())


def test_client_asks_nothing_that_the_stand_in_does_not_know(backend, root):
    assert backend.unknown == []


def test_told_again_nothing_is_added(root, backend):
    """Neither where this machine remembers, nor from another one that has only W&B to ask."""
    before = [(one.name, one.digest) for one in backend.artifacts]
    operations = len(backend.operations)
    settings = {"WANDB_PROJECT": "risk", "GITHUB_REF": "refs/pull/7/merge"}
    project.tell(root, backend, **settings)
    assert len(backend.operations) - operations <= 3  # the report is looked for
    shutil.rmtree(root / "report")
    project.tell(root, backend, **settings)
    assert [row["_step"] for row in backend.runs[RECORD].history] == list(range(60))
    assert [(one.name, one.digest) for one in backend.artifacts] == before
    assert len(backend.views) == 1


def test_live_run_arrives_while_it_trains_and_goes_on_where_the_server_died(other, training_process):
    root, backend = other
    shutil.rmtree(root / "runs")
    record, told = root / "runs/seed-1", []
    with training_process(record) as ask, project.surroundings(root, backend):
        ask("steps", 0, 30)
        follower = threading.Thread(target=lambda: told.append(track([record], root=root, live=True, seconds=3.0)))
        follower.start()
        until(lambda: RECORD in backend.runs and len(backend.runs[RECORD].history) == 29)  # the client sends every 15 s
        assert backend.runs[RECORD].exit_code is None
        backend.stop()
        ask("steps", 30, 60)
        ask("end")
        follower.join()
    (result,) = told
    assert "did not take everything in time" in result.warnings[0]
    assert [row["_step"] for row in backend.runs[RECORD].history] == list(range(29))
    backend.start()
    assert project.tell(root, backend).warnings == []
    assert [row["_step"] for row in backend.runs[RECORD].history] == list(range(60))
    assert backend.runs[RECORD].exit_code == 0


def test_run_that_was_kept_offline_is_not_sent_again_by_sync_once_it_arrived(other):
    root, backend = other
    folder = root / project.tell(root).runs["seed-1"].folder
    project.tell(root, backend)
    assert (folder / f"run-{RECORD}.wandb.synced").exists()


def test_refused_key_ends_offline_with_a_clear_word(other):
    root, backend = other
    backend.refuses_key = True
    told = project.tell(root, backend)
    assert "refuses the key" in told.warnings[0]
    assert (root / told.runs["seed-1"].folder).name.startswith("offline-run-")


def test_malformed_key_is_no_crash(other):
    root, backend = other
    told = project.tell(root, backend, WANDB_API_KEY="short")
    assert "API key must have 40+ characters" in told.warnings[0]
    assert told.runs["seed-1"].folder


def test_settings_in_the_repository_send_the_key_nowhere(other):
    root, _ = other
    for folder in ("wandb", ".wandb"):
        (root / folder).mkdir()
        (root / folder / "settings").write_text("[default]\nbase_url = http://127.0.0.1:9\nentity = theirs\n")
    with project.surroundings(root, WANDB_API_KEY=KEY):
        client = Client(root)
        assert "127.0.0.1" not in client.host
        assert (client.entity, client.online) == ("", True)


@pytest.mark.parametrize("silent", [True, False], ids=["takes the call, never answers", "nobody listens"])
def test_outage_takes_a_limited_time_and_loses_nothing(other, silent):
    root, _ = other
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1] if silent else 9}"
        settings = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "a" * 40}
        started = time.monotonic()
        told = project.tell(root, seconds=1.0, **settings)
        assert time.monotonic() - started < 10
        folder = told.runs["seed-1"].folder
        assert "cannot be used" in told.warnings[0]
        assert project.tell(root, seconds=1.0, **settings).runs["seed-1"].folder == folder
    assert [path.name for path in (root / "wandb").glob("*run-*")] == [folder.removeprefix("wandb/")]


def test_record_in_progress_is_told_as_far_as_it_is(other):
    root, backend = other
    shutil.rmtree(root / "runs")
    run = Written(root / "runs/seed-1")
    run.steps(0, 20)
    project.tell(root, backend)
    assert len(backend.runs[RECORD].history) == 20
    run.steps(20, 40)
    run.end("crashed", reason="disk full")
    project.tell(root, backend)
    assert [row["_step"] for row in backend.runs[RECORD].history] == list(range(40))
    assert (backend.runs[RECORD].exit_code, backend.runs[RECORD].summary["reason"]) == (1, "disk full")


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
