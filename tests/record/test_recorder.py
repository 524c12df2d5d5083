import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ci_tools.errors import ConfigError, RecordError, RecordLocked, RecordMismatch, TrainingFailed
from ci_tools.record import Recorder, open_record
from ci_tools.record.lock import RecordLock
from ci_tools.repro.compare import compare
from tests.record import toy


class Interrupted(Exception):
    """Stands for whatever may go wrong in a user's script."""


def interrupt_at(step):
    def on_step(now, run):
        if now == step:
            raise SystemExit(130)

    return on_step


def leave_unfinished(record, step=50, **options):
    with pytest.raises(SystemExit):
        toy.train(record, on_step=interrupt_at(step), **options)
    assert open_record(record).meta.status == "preempted"


# -- what a record holds ------------------------------------------------------------------------------------------


def test_record_holds_every_step_probe_and_evaluation(finished):
    record = open_record(finished)
    assert record.meta.status == "finished"
    assert record.trace.column("step").to_pylist() == list(range(toy.STEPS))
    assert record.trace.column("epoch").to_pylist() == [step // 15 for step in range(toy.STEPS)]
    assert record.probes.column("step").to_pylist() == [24, 49, 74, 99]
    assert record.evals.column("step").to_pylist() == [30, 60, 90, 120]
    assert [layer.name for layer in record.meta.layers] == [
        "0.weight",
        "0.bias",
        "3.weight",
        "3.bias",
        "5.weight",
        "5.bias",
    ]
    assert record.scores.column("score").to_pylist() == [0.25, 0.75]
    assert record.metrics == {"negative_mse": 0.0}


def test_finished_record_vouches_for_its_files(finished):
    record = open_record(finished)
    names = ["trace.arrows", "probes.arrows", "evals.arrows", "scores.parquet", "metrics.json"]
    assert record.meta.files == {name: hashlib.sha256((finished / name).read_bytes()).hexdigest() for name in names}


def test_trace_figures_agree_with_a_plain_loop(tmp_path):
    record = open_record(toy.train(tmp_path / "run", steps=10, checkpoint_every=50, evaluate=False))
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(toy.SAMPLES, 6, generator=generator)
    y = x[:, :1] ** 2 - x[:, 1:2]
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 16), torch.nn.ReLU(),
        torch.nn.Linear(16, 1),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    sampler = toy.SeededBatches(toy.SAMPLES, toy.BATCH, 3)
    for row, ids in zip(record.trace.to_pylist(), sampler, strict=False):
        loss = torch.nn.functional.mse_loss(model(x[ids]), y[ids])
        loss.backward()
        norms = [p.grad.norm().item() for p in model.parameters()]
        assert row["loss"] == loss.item()
        assert row["grad_rms"] == pytest.approx(
            [n / math.sqrt(p.numel()) for n, p in zip(norms, model.parameters(), strict=True)], rel=1e-6
        )
        assert row["grad_absmax"] == [p.grad.abs().max().item() for p in model.parameters()]
        assert row["grad_norm"] == pytest.approx(float(np.linalg.norm(norms)), rel=1e-6)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()


def test_released_weights_are_those_of_the_best_evaluation(finished):
    record = open_record(finished)
    best = max(record.evals.to_pylist(), key=lambda row: row["value"])
    assert record.meta.best_step == best["step"]
    assert record.weights.parent.name == f"step-{best['step']:08d}"


def test_only_the_newest_checkpoints_and_the_best_are_kept(finished):
    record = open_record(finished)
    steps = [int(p.name.removeprefix("step-")) for p in record.checkpoints]
    assert steps[-3:] == [90, 100, 120]
    assert set(steps) <= {90, 100, 120, record.meta.best_step}


def test_two_processes_give_the_same_bits(finished, tmp_path):
    record = tmp_path / "run"
    subprocess.run([sys.executable, "-m", "tests.record.toy", str(record), "{}"], check=True)
    assert compare(finished, record).identical


def test_training_works_without_dvc_and_wandb(tmp_path):
    code = (
        "import sys; sys.modules['dvc'] = sys.modules['wandb'] = None\n"
        f"from tests.record import toy; toy.train({str(tmp_path / 'run')!r}, steps=5)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert open_record(tmp_path / "run").meta.status == "finished"


# -- crash and resume ---------------------------------------------------------------------------------------------


def test_sigterm_leaves_a_checkpoint_and_asks_for_a_retry(finished, tmp_path):
    record = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        toy.train(record, on_step=lambda step, run: os.kill(os.getpid(), signal.SIGTERM) if step == 33 else None)
    assert stopped.value.code == 75
    meta = open_record(record).meta
    assert (meta.status, meta.steps) == ("preempted", 34)
    toy.train(record)
    assert [r.from_step for r in open_record(record).meta.resumes] == [34]
    assert compare(finished, record).identical


def test_ctrl_c_leaves_a_resumable_state(finished, tmp_path):
    record = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        toy.train(record, on_step=lambda step, run: os.kill(os.getpid(), signal.SIGINT) if step == 33 else None)
    assert stopped.value.code == 130
    toy.train(record)
    assert compare(finished, record).identical


def test_signal_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    toy.train(tmp_path / "run", steps=2)
    assert signal.getsignal(signal.SIGTERM) is before


def flip_byte(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["bit flip", "truncated", "missing file", "empty manifest"])
def test_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(finished, tmp_path, damage):
    record = tmp_path / "run"
    leave_unfinished(record, 75)
    newest = open_record(record).checkpoints[-1]
    if damage == "bit flip":
        flip_byte(newest / "model.safetensors", -3)
    elif damage == "truncated":
        (newest / "state.safetensors").write_bytes((newest / "state.safetensors").read_bytes()[:100])
    elif damage == "missing file":
        (newest / "state.json").unlink()
    else:
        (newest / "manifest.json").write_text("")
    toy.train(record)
    meta = open_record(record).meta
    assert any(newest.name in warning and "falling back" in warning for warning in meta.warnings)
    assert meta.resumes[0].from_step < int(newest.name.removeprefix("step-"))
    assert compare(finished, record).identical


def test_trace_shorter_than_its_checkpoint_falls_back(finished, tmp_path):
    record = tmp_path / "run"
    leave_unfinished(record, 75)
    trace = record / "trace.arrows"
    trace.write_bytes(trace.read_bytes()[: trace.stat().st_size // 2])
    toy.train(record)
    assert open_record(record).meta.warnings
    assert compare(finished, record).identical


def test_all_checkpoints_damaged_starts_again(finished, tmp_path):
    record = tmp_path / "run"
    leave_unfinished(record, 75)
    for folder in open_record(record).checkpoints:
        flip_byte(folder / "model.safetensors", -1)
    toy.train(record)
    assert compare(finished, record).identical
    assert any("falling back" in warning for warning in open_record(record).meta.warnings), "it must not be forgotten"


def test_changed_parameter_between_crash_and_resume_is_refused_by_name(tmp_path):
    record = tmp_path / "run"
    leave_unfinished(record)
    before = {p: p.read_bytes() for p in record.rglob("*") if p.is_file()}
    with pytest.raises(RecordMismatch, match=r"lr=0\.02, now 0\.03"):
        toy.train(record, lr=0.03)
    assert before == {p: p.read_bytes() for p in record.rglob("*") if p.is_file()}, "nothing may be lost"


def test_changed_seed_between_crash_and_resume_is_refused(tmp_path):
    leave_unfinished(tmp_path / "run")
    with pytest.raises(RecordMismatch, match="seed 3, now 4"):
        toy.train(tmp_path / "run", seed=4)


def test_changed_data_between_crash_and_resume_is_refused(tmp_path):
    data = tmp_path / "rows.csv"
    data.write_text("1")
    leave_unfinished(tmp_path / "run", data=[data])
    data.write_text("2")
    with pytest.raises(RecordMismatch, match=r"rows\.csv changed"):
        toy.train(tmp_path / "run", data=[data])


def test_changed_code_between_crash_and_resume_is_refused(tmp_path):
    record = tmp_path / "run"
    leave_unfinished(record)
    meta = json.loads((record / "run.json").read_text())
    meta["code"]["ci_tools/record/recorder.py"] = "0" * 64
    (record / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RecordMismatch, match=r"recorder\.py changed"):
        toy.train(record)


def test_resume_on_another_stack_is_noted(tmp_path):
    record = tmp_path / "run"
    leave_unfinished(record)
    meta = json.loads((record / "run.json").read_text())
    meta["fingerprint"]["cpu"] = "another"
    (record / "run.json").write_text(json.dumps(meta))
    toy.train(record)
    assert open_record(record).meta.resumes[0].stack_changes[0].startswith("cpu: another")


def test_finished_record_is_replaced_by_a_new_run(tmp_path):
    record = toy.train(tmp_path / "run", steps=30)
    toy.train(record, steps=40)
    meta = open_record(record).meta
    assert (meta.steps, meta.resumes) == (40, [])


def train_with_workers(record, stop=None):
    """Dropout draws from the generator that a DataLoader, too, draws from whenever it starts."""

    class Rows(torch.utils.data.Dataset):
        def __getitem__(self, i):
            return torch.full((3,), i / 64), torch.tensor([float(i % 2)])

    with Recorder(record, params={}, seed=5, checkpoint_every=4) as run:
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        run.watch(model, optimizer)
        sampler = toy.SeededBatches(64, 8, 5)
        loader = torch.utils.data.DataLoader(Rows(), batch_sampler=sampler, num_workers=1, prefetch_factor=1)
        for step, (x, y) in run.steps(loader, 12):
            if step == stop:
                raise SystemExit(130)
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            run.record(loss)
            optimizer.step()
            optimizer.zero_grad()
        run.finish({})
    return record


def test_run_with_a_data_loader_resumes_mid_epoch_to_the_same_dropout(tmp_path):
    whole = train_with_workers(tmp_path / "whole")
    with pytest.raises(SystemExit):
        train_with_workers(tmp_path / "run", stop=6)
    assert compare(whole, train_with_workers(tmp_path / "run")).identical


# -- divergence ---------------------------------------------------------------------------------------------------


def test_nan_loss_stops_after_patience_and_keeps_the_evidence(tmp_path):
    with pytest.raises(TrainingFailed, match="step 70: loss is nan"):
        toy.train(tmp_path / "run", bump="nan", at=70, evaluate=False)
    record = open_record(tmp_path / "run")
    assert record.meta.status == "failed"
    assert "diverged at step 70" in record.meta.reason
    losses = record.trace.column("loss").to_numpy()
    assert np.isfinite(losses[:70]).all()
    assert np.isnan(losses[70:74]).all()
    assert record.trace.column("nonfinite")[70].as_py() == 6


def test_nan_in_the_last_steps_is_noticed_too(tmp_path):
    with pytest.raises(TrainingFailed):
        toy.train(tmp_path / "run", bump="nan", at=toy.STEPS - 5, evaluate=False)


def test_fewer_bad_steps_than_patience_are_forgiven(tmp_path):
    record = toy.train(tmp_path / "run", loss_limit=0.0, patience=toy.STEPS + 1, steps=40)
    assert open_record(record).meta.status == "finished"


def test_recovery_returns_to_a_good_checkpoint_with_half_the_rate(tmp_path):
    record = open_record(toy.train(tmp_path / "run", bump="poison", at=70, max_recoveries=1, evaluate=False))
    assert record.meta.status == "finished"
    (recovery,) = record.meta.recoveries
    assert recovery.onset_step == 70
    assert recovery.from_step == 60
    abandoned = [row for row in record.trace.to_pylist() if row["attempt"] == 0 and row["step"] >= 60]
    assert abandoned[-1]["step"] >= 73, "the evidence stays"
    final = record.final_trace().to_pylist()
    assert [row["step"] for row in final] == list(range(toy.STEPS))
    assert {row["lr"] for row in final if row["step"] < 60} == {0.02}
    assert {row["lr"] for row in final if row["step"] >= 60} == {0.01}


def test_no_more_recoveries_than_allowed(tmp_path):
    with pytest.raises(TrainingFailed, match="2 of 2 recoveries used"):
        toy.train(tmp_path / "run", bump="nan", at=70, max_recoveries=2, evaluate=False)
    assert len(open_record(tmp_path / "run").meta.recoveries) == 2


@pytest.mark.parametrize("step", [40, 65, 90])
def test_crash_around_a_recovery_resumes_to_the_same_bits(tmp_path, step):
    options = {"bump": "poison", "at": 70, "max_recoveries": 1, "evaluate": False}
    whole = toy.train(tmp_path / "whole", **options)
    record = tmp_path / "run"
    seen = []

    def stop_once(now, run):
        seen.append(now)
        if now == step and (step != 90 or run.meta.recoveries):
            raise SystemExit(130)

    with pytest.raises(SystemExit):
        toy.train(record, on_step=stop_once, **options)
    toy.train(record, **options)
    assert compare(whole, record).identical
    assert open_record(record).meta.recoveries == open_record(whole).meta.recoveries


# -- misuse and a hostile disk ------------------------------------------------------------------------------------


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


def test_params_with_tuples_resume(tmp_path):
    params = {"betas": (0.9, 0.99)}
    leave_unfinished(tmp_path / "run", params=params)
    toy.train(tmp_path / "run", params=params)
    assert open_record(tmp_path / "run").meta.resumes


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


def test_run_without_progress_starts_over_under_other_params(tmp_path):
    leave_unfinished(tmp_path / "run", 5)
    toy.train(tmp_path / "run", lr=0.03, steps=10)
    assert open_record(tmp_path / "run").meta.params["lr"] == 0.03


def test_timing_columns_hold_milliseconds(tmp_path):
    def slow(step, run):
        if step == 10:
            time.sleep(0.2)

    trace = open_record(toy.train(tmp_path / "run", steps=20, on_step=slow)).trace
    assert trace.column("step_ms")[10].as_py() >= 200
    assert trace.column("step_ms")[9].as_py() < 200
