"""Wrong use and a hostile disk: one clear error, and nothing is lost."""

import json
import shutil
import subprocess
import sys
import time

import pytest
import torch

from ci_tools.errors import ConfigError, RecordError, RecordLocked
from ci_tools.record import Recorder, open_record
from ci_tools.record.lock import RecordLock
from ci_tools.repro.compare import compare
from tests.record import toy


class Interrupted(Exception):
    """Stands for whatever may go wrong in a user's script."""


def test_second_writer_is_refused_and_the_first_is_named(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ci_tools.record.lock import RecordLock\n"
        f"lock = RecordLock(Path({str(tmp_path / 'run')!r})); lock.acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(RecordLocked, match=f"process {owner.pid} on "):
            toy.train(tmp_path / "run", steps=2)
        owner.stdin.close()
    toy.train(tmp_path / "run", steps=2)


def test_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os; from pathlib import Path; from ci_tools.record.lock import RecordLock\n"
        f"RecordLock(Path({str(tmp_path / 'run')!r})).acquire(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    lock = RecordLock(tmp_path / "run")
    lock.acquire()
    lock.release()


def test_folder_with_other_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(RecordError, match=r"holds thesis\.txt but no run record"):
        toy.train(tmp_path / "run", steps=2)
    assert (tmp_path / "run" / "thesis.txt").read_text() == "irreplaceable"


def test_record_of_a_newer_schema_is_refused(finished, tmp_path):
    record = tmp_path / "run"
    shutil.copytree(finished, record)
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps({**meta, "schema_version": 2}))
    with pytest.raises(RecordError, match=r"schema version 2; this Switchback reads version 1. Fix: upgrade"):
        open_record(record)
    with pytest.raises(RecordError, match="schema version 2"):
        toy.train(record)


def test_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        toy.train(tmp_path / "file" / "run", steps=2)


def test_full_disk_during_a_checkpoint_keeps_the_ones_before(tmp_path, monkeypatch):
    from ci_tools.repro import checkpoint

    record, real = tmp_path / "run", checkpoint.save_file

    def full(tensors, path):
        if "step-00000060" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RecordError, match=r"No space left on device.*run again to resume"):
        toy.train(record)
    assert open_record(record).meta.status == "crashed"
    monkeypatch.undo()
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")
    toy.train(record)
    assert open_record(record).meta.resumes[0].from_step >= 30


def loop_without_record(path):
    with Recorder(path, params={}, seed=0) as run:
        model = torch.nn.Linear(2, 1)
        run.watch(model, torch.optim.SGD(model.parameters(), 0.1))
        rows = toy.Rows(torch.zeros(8, 2), torch.zeros(8, 1))
        list(run.steps(toy.SeededLoader(rows, toy.SeededBatches(8, 4, 0)), 3))


def test_full_disk_while_scores_are_written_is_one_clear_error_and_resumes(finished, tmp_path, monkeypatch):
    from ci_tools.record import files

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.pq, "write_table", full)
    with pytest.raises(RecordError, match=r"scores\.parquet: cannot be written .*No space left"):
        toy.train(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".scores*"))
    monkeypatch.undo()
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")
    toy.train(tmp_path / "run")
    assert open_record(tmp_path / "run").meta.resumes[0].from_step == toy.STEPS
    assert compare(finished, tmp_path / "run").identical


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_params_that_json_cannot_hold_are_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="use finite numbers"):
        toy.train(tmp_path / "run", params={"x": value})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_refused(tmp_path, seed):
    with pytest.raises(ConfigError, match="seed must be in"):
        toy.train(tmp_path / "run", seed=seed)


def test_forgotten_record_call_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"run\.record\(loss\) was not called"):
        loop_without_record(tmp_path / "run")


def test_script_that_forgets_to_finish_is_told(tmp_path):
    with pytest.raises(RecordError, match=r"without run\.finish"):
        toy.train(tmp_path / "run", steps=3, finish=False)
    meta = open_record(tmp_path / "run").meta
    assert (meta.status, meta.reason) == ("crashed", "the script ended without run.finish(…)")


def test_exception_of_the_user_is_kept_as_the_reason(tmp_path):
    def fail(step, run):
        if step == 5:
            raise Interrupted("shape mismatch")

    with pytest.raises(Interrupted):
        toy.train(tmp_path / "run", on_step=fail)
    meta = open_record(tmp_path / "run").meta
    assert (meta.status, meta.reason) == ("crashed", "Interrupted('shape mismatch')")


def test_run_that_an_exception_ended_resumes_where_it_was(finished, tmp_path):
    def fail(step, run):
        if step == 75:
            raise Interrupted("the file server is gone")

    with pytest.raises(Interrupted):
        toy.train(tmp_path / "run", on_step=fail)
    toy.train(tmp_path / "run")
    assert open_record(tmp_path / "run").meta.resumes[0].from_step >= 30
    assert compare(finished, tmp_path / "run").identical


def test_timing_columns_hold_milliseconds(tmp_path):
    def slow(step, run):
        if step == 10:
            time.sleep(0.2)

    trace = open_record(toy.train(tmp_path / "run", steps=20, on_step=slow)).trace
    assert trace.column("step_ms")[10].as_py() >= 200
    assert trace.column("step_ms")[9].as_py() < 200
