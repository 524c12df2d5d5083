"""The record under DistributedDataParallel: two gloo processes on one machine.

Run as a program, this file is a server that forks the ranks of each job (a line of JSON), to import torch only once.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from ci_tools.errors import RecordMismatch, TrainingFailed
from ci_tools.record import Recorder, SeededBatches, SeededLoader, open_record, schema
from ci_tools.repro import manifest
from ci_tools.repro.compare import compare
from tests.record.server import program
from tests.record.toy import Halver, Rows

SAMPLES, BATCH, STEPS, EVERY, LR = 480, 32, 90, 20, 0.05
WROTE, FAILED, DEADLOCKED = 9, 1, -signal.SIGALRM


def train(record, *, dropout=0.0, crash_at=-1, poison_at=-1, fail_at=-1, max_recoveries=0):
    """Train on the whole batch, or on this rank's part of it; only rank 1 is poisoned or fails."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    with Recorder(
        record,
        params={"lr": LR, "dropout": dropout},
        seed=3,
        evaluate_every=30,
        checkpoint_every=EVERY,
        probe_every=25,
        keep=2,
        patience=4,
        max_recoveries=max_recoveries,
    ) as run:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(SAMPLES, 6, generator=generator)
        y = x[:, :1] ** 2 - x[:, 1:2]
        layers = torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(16, 1)
        plain = torch.nn.Sequential(*layers)
        model = torch.nn.parallel.DistributedDataParallel(plain) if world > 1 else plain
        optimizer = torch.optim.AdamW(model.parameters(), LR)
        schedule = Halver(optimizer, LR)
        run.watch(model, optimizer, schedule=schedule)
        sampler = SeededBatches(SAMPLES, BATCH, 3, rank=rank, world=world)
        for step, batch in run.steps(SeededLoader(Rows(x, y), sampler), STEPS, recover=schedule.halve):
            if step == crash_at:
                while newest_step(record) < step - step % EVERY:  # the disk may lag behind the loop
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            if step == fail_at and rank == 1:
                raise ArithmeticError("only here")
            schedule.apply()
            loss = torch.zeros(())
            for part, share in run.micro_batches(batch):
                part_loss = torch.nn.functional.mse_loss(model(part.x), part.y) * share
                if rank == 1 and step >= poison_at >= 0 and schedule.lr > LR / 3:
                    part_loss = part_loss * float("inf")
                part_loss.backward()
                loss = loss + part_loss.detach()
            run.record(loss, clip_norm=1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if run.due("evaluate"):
                with torch.no_grad():
                    plain.eval()
                    value = -float(torch.nn.functional.mse_loss(plain(x), y))
                    plain.train()
                run.evaluated("validation", {"negative_mse": value}, best="negative_mse")
        run.load_best()
        run.finish({"steps": STEPS})


def newest_step(record):
    """Steps behind the newest complete checkpoint on disk."""
    return max(map(manifest.checkpoint_step, manifest.list_checkpoints(Path(record) / schema.CHECKPOINTS)), default=0)


def exit_when_writing(folder):
    """End this process when it changes anything under `folder`."""

    def audit(event, arguments):
        writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
        if event == "open":
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and str(folder) in str(arguments[0]):
            os._exit(WROTE)

    sys.addaudithook(audit)


def rank_process(rank, world, rendezvous, record, options):
    """One rank; the alarm ends it if the ranks wait for each other for ever."""
    signal.alarm(60)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), SWITCHBACK_QUIET="1")
    if rank > 0:
        exit_when_writing(record)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world, timeout=timedelta(seconds=50)
    )
    try:
        train(record, **options)
    except TrainingFailed:
        os._exit(FAILED)
    os._exit(0)


def serve():
    import torch._inductor  # noqa: F401 - what the first optimizer of each child would import

    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryDirectory() as scratch:
            children = []
            for rank in range(job["world"]):
                children.append(os.fork())
                if children[-1] == 0:
                    try:
                        rank_process(rank, job["world"], Path(scratch) / "store", job["record"], job["options"])
                    finally:
                        os._exit(70)
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


@pytest.fixture(scope="module")
def ranks():
    """Train with several ranks; returns their exit codes."""
    with program("tests.record.test_ddp") as ask:

        def run(record, world=2, **options):
            return ask(record=str(record), world=world, options=options)

        yield run


@pytest.fixture(scope="module")
def whole(ranks, tmp_path_factory):
    """Two ranks, with dropout, nothing in the way."""
    record = tmp_path_factory.mktemp("whole") / "run"
    assert ranks(record, dropout=0.2) == [0, 0]
    return record


@pytest.fixture(scope="module")
def crashed(ranks, tmp_path_factory):
    """The same run, both ranks killed at once between two checkpoints."""
    record = tmp_path_factory.mktemp("crashed") / "run"
    assert ranks(record, dropout=0.2, crash_at=73) == [-9, -9]
    return record


def test_record_is_that_of_one_process_on_the_whole_batch(ranks, tmp_path):
    assert ranks(tmp_path / "two") == [0, 0]
    train(tmp_path / "one")
    one, two = (open_record(tmp_path / name) for name in ("one", "two"))
    assert one.meta.initial_weights == two.meta.initial_weights
    for name in ("step", "epoch", "samples_seen", "batch_digest", "lr"):
        assert one.trace.column(name).equals(two.trace.column(name)), name
    for name in ("loss", "grad_norm", "clip_coefficient"):
        a, b = (r.trace.column(name).to_numpy() for r in (one, two))
        np.testing.assert_allclose(a, b, rtol=2e-3, err_msg=name)
    for name in ("grad_rms", "grad_absmax"):
        a, b = (np.array(r.trace.column(name).to_pylist()) for r in (one, two))
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-5, err_msg=name)
    assert two.evals.num_rows == one.evals.num_rows == 3
    assert two.probes.column("step").to_pylist() == [24, 49, 74]


def test_two_runs_give_the_same_bits_and_only_rank_0_writes(ranks, whole, tmp_path):
    assert ranks(tmp_path / "run", dropout=0.2) == [0, 0], f"exit code {WROTE}: a rank other than 0 wrote"
    assert compare(whole, tmp_path / "run").identical


def test_crash_of_both_ranks_resumes_to_the_same_bits(ranks, whole, crashed, tmp_path):
    record = shutil.copytree(crashed, tmp_path / "run")
    assert ranks(record, dropout=0.2) == [0, 0]
    assert [r.from_step for r in open_record(record).meta.resumes] == [60]
    found = compare(whole, record)
    assert found.identical, found.render()


def test_ranks_fall_back_together_behind_a_damaged_checkpoint(ranks, whole, crashed, tmp_path):
    record = shutil.copytree(crashed, tmp_path / "run")
    newest = open_record(record).checkpoints[-1]
    (newest / "state.json").unlink()
    assert ranks(record, dropout=0.2) == [0, 0]
    meta = open_record(record).meta
    assert [r.from_step for r in meta.resumes] == [40]
    assert "falling back" in meta.warnings[0]
    assert compare(whole, record).identical


def test_resume_with_another_number_of_ranks_is_refused(crashed, tmp_path, monkeypatch):
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")
    record = shutil.copytree(crashed, tmp_path / "run")
    with pytest.raises(RecordMismatch, match="made by 2 processes, now 1"):
        train(record, dropout=0.2)


def test_divergence_on_one_rank_is_agreed_on_by_all(ranks, tmp_path):
    codes = ranks(tmp_path / "run", poison_at=50)
    assert codes == [FAILED, FAILED], f"exit code {DEADLOCKED}: the ranks waited for each other"
    meta = open_record(tmp_path / "run").meta
    assert meta.status == "failed"
    assert "diverged at step 50" in meta.reason


def test_ranks_recover_together(ranks, tmp_path):
    assert ranks(tmp_path / "run", poison_at=50, max_recoveries=2) == [0, 0]
    record = open_record(tmp_path / "run")
    assert [(r.onset_step, r.from_step) for r in record.meta.recoveries] == [(50, 40), (50, 40)]
    final = record.final_trace()
    assert final.column("step").to_pylist() == list(range(STEPS))
    assert np.isfinite(final.column("loss").to_numpy()).all()
    assert set(final.column("lr").to_pylist()[40:]) == {LR / 4}


def test_rank_that_fails_alone_ends_without_waiting_for_the_others(ranks, tmp_path):
    codes = ranks(tmp_path / "run", fail_at=37)
    assert DEADLOCKED not in codes
    assert 0 not in codes
    record = open_record(tmp_path / "run")
    assert record.meta.status == "crashed"
    assert record.trace.num_rows == 30, "no row whose loss the ranks did not average"


if __name__ == "__main__":
    serve()
