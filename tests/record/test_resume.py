"""An unfinished run is taken up where it was, or refused with the reason."""

import json
import os
import signal

import pytest
import torch

from ci_tools.errors import RecordMismatch
from ci_tools.record import Recorder, open_record
from ci_tools.repro.compare import compare
from tests.record import toy


def interrupt_at(step):
    def on_step(now, run):
        if now == step:
            raise SystemExit(130)

    return on_step


def leave_unfinished(record, step=50, **options):
    with pytest.raises(SystemExit):
        toy.train(record, on_step=interrupt_at(step), **options)
    assert open_record(record).meta.status == "preempted"


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


def test_params_with_tuples_resume(tmp_path):
    params = {"betas": (0.9, 0.99)}
    leave_unfinished(tmp_path / "run", params=params)
    toy.train(tmp_path / "run", params=params)
    assert open_record(tmp_path / "run").meta.resumes


def test_run_without_progress_starts_over_under_other_params(tmp_path):
    leave_unfinished(tmp_path / "run", 5)
    toy.train(tmp_path / "run", lr=0.03, steps=10)
    assert open_record(tmp_path / "run").meta.params["lr"] == 0.03
