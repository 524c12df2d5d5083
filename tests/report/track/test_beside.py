"""Tracking beside a run: it starts only where it was asked for, costs the run nothing, and outlives no limit."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from ci_tools.record.reader import open_record
from ci_tools.record.schema import TIMING_COLUMNS
from ci_tools.report.track import kept
from ci_tools.report.track.beside import GRACE, LOG, configured, tracking, trusted
from ci_tools.report.track.command import attend
from tests.record import toy
from tests.report.track import project
from tests.report.track.backend import KEY, Backend


@pytest.fixture
def silent():
    """A server that takes every call and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"WANDB_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}", "WANDB_API_KEY": KEY}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"WANDB_PROJECT": "risk"}, False),
        ({"WANDB_MODE": "disabled"}, False),
        ({"WANDB_MODE": "offline"}, True),
        ({"WANDB_API_KEY": "k"}, True),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, False),
    ],
)
def test_only_a_key_or_a_mode_asks_for_it(environ, expected):
    assert configured(environ) == expected


def test_without_either_nothing_is_started_and_nothing_imported():
    code = (
        "import subprocess, sys; from ci_tools.report.track.beside import tracking\n"
        "subprocess.Popen = None\n"
        "with tracking() as process: assert process is None\n"
        "print([n for n in ('wandb', 'pyarrow', 'numpy', 'pydantic') if n in sys.modules])"
    )
    kept_environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run([sys.executable, "-c", code], env=kept_environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_training_does_not_inherit_the_key(tmp_path):
    ask = [sys.executable, "-c", "import os; print(os.environ.get('WANDB_API_KEY'))"]
    with project.surroundings(tmp_path, WANDB_MODE="offline", WANDB_API_KEY=KEY, PYTHONPATH=os.getcwd()):
        with tracking(grace=0.0) as process:
            assert subprocess.run(ask, capture_output=True, text=True).stdout == "None\n"
        assert os.environ["WANDB_API_KEY"] == KEY
    process.wait()


def test_key_reaches_w_and_b_without_standing_in_an_environment(tmp_path):
    backend, deadline = Backend().start(), time.monotonic() + 30
    root = project.make(tmp_path / "root")
    with project.surroundings(root, backend, PYTHONPATH=os.getcwd()), tracking(grace=60.0) as process:
        tracker = psutil.Process(process.pid)
        while not (own := [one for one in tracker.children(recursive=True) if one.name() == "wandb-core"]):
            assert time.monotonic() < deadline, "W&B's own process did not start"
            time.sleep(0.05)
        environments = [one.environ() for one in (tracker, *own)]
    backend.stop()
    assert KEY not in str(environments)
    assert len(backend.runs) == 2, (root / LOG).read_text()


def test_modules_of_the_repository_are_not_imported_where_the_key_is(tmp_path):
    root = project.make(tmp_path / "root")
    for name in ("wandb", "netrc", "contextlib", "sitecustomize"):
        (root / f"{name}.py").write_text("open('imported', 'w').close()")
    with project.surroundings(root, WANDB_MODE="offline", PYTHONPATH=os.getcwd()), tracking(grace=60.0) as process:
        pass
    assert process.returncode == 0, (root / LOG).read_text()
    assert "kept in wandb/offline-run-" in (root / LOG).read_text()
    assert not (root / "imported").exists()


def test_places_of_modules_in_the_repository_are_left_out_but_for_its_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    kept_places = ["/usr/lib/python3.11", str(tmp_path / ".venv/lib/python3.11/site-packages"), str(tmp_path.parent)]
    places = [str(tmp_path), *kept_places, str(tmp_path / "src"), f"{tmp_path}/.venv/../src"]
    assert trusted(places, tmp_path) == kept_places


def test_key_that_is_handed_over_serves_run_and_report(tmp_path):
    backend, root, ended, lines = Backend().start(), project.make(tmp_path / "root"), threading.Event(), []
    ended.set()
    with project.surroundings(root, WANDB_BASE_URL=backend.url):
        attend(root, ended, lines.append, key=KEY)
    backend.stop()
    assert [line.partition(":")[0] for line in lines] == ["seed-1", "gate", "report"], lines
    assert not (root / "no").exists()  # the key was not written to ~/.netrc


def test_training_beside_a_silent_server_computes_the_same_bits_and_loses_little_time(tmp_path, silent, finished):
    with project.surroundings(tmp_path, **silent), tracking(grace=0.5) as process:
        toy.train(tmp_path / "runs/seed-1")
        before = time.monotonic()
    assert time.monotonic() - before < 0.5 + 1.0
    assert GRACE + 1.0 <= 5.0
    a, b = (open_record(path) for path in (finished, tmp_path / "runs/seed-1"))
    assert a.trace.drop_columns(TIMING_COLUMNS).equals(b.trace.drop_columns(TIMING_COLUMNS))
    assert a.weights.read_bytes() == b.weights.read_bytes()
    assert process.poll() is None  # it goes on, for a limited time; see the next test
    process.terminate()
    process.wait()


def test_what_a_silent_server_does_not_take_is_kept_within_a_limit(tmp_path, silent):
    root, ended, lines = project.make(tmp_path / "root"), threading.Event(), []
    ended.set()
    started = time.monotonic()
    with project.surroundings(root, **silent):
        attend(root, ended, lines.append, seconds=1.0)
    assert time.monotonic() - started < 10
    assert [line.partition(":")[0] for line in lines] == ["seed-1", "gate", "warning"], lines
    assert all((root / entry.folder).name.startswith("offline-run-") for entry in kept.read(root).runs.values())


def test_process_tells_what_was_trained_and_judged_and_then_ends(tmp_path, capfd):
    backend = Backend().start()
    root = project.make(tmp_path / "root")
    with project.surroundings(root, backend, PYTHONPATH=os.getcwd()), tracking(grace=60.0) as process:
        pass
    backend.stop()
    assert process.returncode == 0, (root / LOG).read_text()
    assert sorted(len(run.history) for run in backend.runs.values()) == [1, 60]
    assert f"W&B: seed-1: {backend.url}" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system does not weigh sessions")
def test_process_and_w_and_b_s_own_give_way_to_training(tmp_path, training_process):
    def nice(process):
        return int(Path(f"/proc/{process.pid}/autogroup").read_text().split()[-1])

    def wait_for(found):
        deadline = time.monotonic() + 30
        while not (last := found()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return last

    surroundings = project.surroundings(tmp_path, WANDB_MODE="offline", PYTHONPATH=os.getcwd())
    with training_process(tmp_path / "runs/seed-1") as ask, surroundings, tracking(grace=60.0) as process:
        ask("steps", 0, 30)
        tracker = psutil.Process(process.pid)
        wait_for(lambda: nice(process) == 19)
        (own,) = wait_for(lambda: [one for one in tracker.children(recursive=True) if one.name() == "wandb-core"])
        wait_for(lambda: nice(own) == 19)
        assert [one.nice() for one in (tracker, own)] == [19, 19]
        ask("end")
    assert process.returncode == 0, (tmp_path / LOG).read_text()


def test_process_ends_when_the_run_is_killed(tmp_path):
    code = (
        "import os; from ci_tools.report.track.beside import tracking\n"
        "with tracking() as process: print(process.pid, flush=True); os._exit(9)"
    )
    with project.surroundings(tmp_path, WANDB_MODE="offline", PYTHONPATH=os.getcwd()):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{int(done.stdout)}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{int(done.stdout)}")


def test_disk_that_refuses_the_log_is_no_reason_to_stop(tmp_path, capfd):
    (tmp_path / "report").write_text("a file where the folder should be")
    with project.surroundings(tmp_path, WANDB_MODE="offline"), tracking() as process:
        assert process is None
    assert "W&B is not told of this run" in capfd.readouterr().err


def test_unreadable_record_is_said_and_the_others_are_told(tmp_path):
    lines, ended = [], threading.Event()
    ended.set()
    root = project.make(tmp_path / "root", verdicts=None)
    (root / "runs/seed-0").mkdir()
    (root / "runs/seed-0/run.json").write_text("{")
    with project.surroundings(root):
        attend(root, ended, lines.append)
    assert [line.partition(":")[0] for line in lines] == ["seed-1", "warning"]
    assert "run.json is not a run description" in lines[1]
