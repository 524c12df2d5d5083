"""What Lightning and Hugging Face's Trainer must both leave in a record; their test modules add what is their own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from ci_tools.errors import TrainingFailed
from ci_tools.gates.convergence import divergence
from ci_tools.gates.training import read
from ci_tools.gates.verdict import Outcome, judge
from ci_tools.record import open_record
from ci_tools.repro.compare import compare
from ci_tools.repro.determinism import seed_everything
from ci_tools.repro.order import epoch_order
from ci_tools.repro.replay import replay
from tests.record import blobs

TRACED = ("step", "epoch", "samples_seen", "batch_digest", "attempt", "lr")


def columns(record, *names):
    table = open_record(record).trace
    return [np.stack([np.asarray(cell) for cell in table[name].to_pylist()]) for name in names]


def by_hand():
    """Loss, norm of the gradient and rate at every step, by PyTorch's own functions and no recorder."""
    seed_everything(3)
    rows, model = blobs.Rows(blobs.SAMPLES, 1), blobs.Net()
    model.body[2].p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), blobs.LR)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, blobs.rate)
    found = []
    for step in range(blobs.STEPS):
        epoch, cursor = divmod(step, blobs.SAMPLES // blobs.BATCH)
        ids = epoch_order(3, epoch, blobs.SAMPLES)[cursor * blobs.BATCH :][: blobs.BATCH]
        loss = model(rows.x[ids], rows.labels[ids])["loss"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), blobs.CLIP)
        found.append((loss.item(), norm.item(), optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return np.array(found).T


class Recorded:
    """`self.train` is the framework's loop of `blobs`."""

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tmp_path_factory):
        path = tmp_path_factory.mktemp("finished") / "run"
        cls.train(path)
        return path

    @pytest.mark.parametrize("parts", [1, 4])
    def test_loss_gradients_and_rates_are_those_of_a_plain_loop(self, tmp_path, parts):
        type(self).train(tmp_path / "run", parts=parts, dropout=0.0)
        loss, norm, rate = by_hand()
        recorded = columns(tmp_path / "run", "loss", "grad_norm", "lr", "clip_coefficient")
        np.testing.assert_allclose(recorded[0], loss, rtol=1e-4)
        np.testing.assert_allclose(recorded[1], norm, rtol=1e-3)
        np.testing.assert_allclose(recorded[2], rate, rtol=1e-6)
        np.testing.assert_allclose(recorded[3], np.minimum(blobs.CLIP / norm, 1), rtol=1e-3)
        assert (recorded[3] < 1).any()

    def test_record_is_that_of_the_same_loop_written_out(self, tmp_path):
        type(self).train(tmp_path / "run", dropout=0.0)
        blobs.own(tmp_path / "own", dropout=0.0)
        for a, b in zip(columns(tmp_path / "run", *TRACED), columns(tmp_path / "own", *TRACED), strict=True):
            assert (a == b).all()
        theirs, ours = open_record(tmp_path / "run"), open_record(tmp_path / "own")
        assert theirs.meta.status == "finished"
        assert [layer.shape for layer in theirs.meta.layers] == [layer.shape for layer in ours.meta.layers]
        assert theirs.probes["step"].to_pylist() == ours.probes["step"].to_pylist()
        ratios = [np.stack(one.probes["update_ratio"].to_pylist()) for one in (theirs, ours)]
        np.testing.assert_allclose(*ratios, rtol=1e-3)
        accuracies = [
            {row["step"]: row["value"] for row in one.evals.to_pylist() if row["metric"] == "accuracy"}
            for one in (theirs, ours)
        ]
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)  # one example of 120 may tip over

    def test_accumulated_halves_give_the_noise_of_the_gradient(self, tmp_path):
        type(self).train(tmp_path / "run", parts=4)
        assert np.isfinite(np.stack(open_record(tmp_path / "run").probes["half_cosine"].to_pylist())).all()

    @pytest.mark.parametrize(("stop", "parts"), [(13, 1), (20, 1), (23, 4)])
    def test_run_that_was_stopped_and_started_again_ends_with_the_same_bits(self, finished, tmp_path, stop, parts):
        whole = finished
        if parts > 1:
            whole = tmp_path / "whole"
            type(self).train(whole, parts=parts)
        with pytest.raises(SystemExit) as stopped:
            type(self).train(tmp_path / "run", parts=parts, stop_at=stop)
        assert stopped.value.code == 75
        assert open_record(tmp_path / "run").meta.status == "preempted"
        type(self).train(tmp_path / "run", parts=parts)
        assert [resume.from_step for resume in open_record(tmp_path / "run").meta.resumes] == [stop + 1]
        assert compare(whole, tmp_path / "run").identical, compare(whole, tmp_path / "run").render()

    @pytest.mark.slow
    def test_killed_run_goes_on_from_its_last_checkpoint(self, finished, tmp_path):
        command = [sys.executable, "-m", "tests.record.blobs", type(self).loop, str(tmp_path / "run")]
        killed = subprocess.run([*command, '{"stop_at": 21, "by": "SIGKILL"}'], env=environment(), capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        type(self).train(tmp_path / "run")
        assert open_record(tmp_path / "run").meta.resumes[0].from_step in (8, 16)
        assert compare(finished, tmp_path / "run").identical

    @pytest.mark.slow
    def test_replay_finds_the_same_bits(self, tmp_path, monkeypatch):
        command = [sys.executable, "-m", "tests.record.blobs", type(self).loop, str(tmp_path / "run"), "{}"]
        subprocess.run(command, env=environment(), check=True, capture_output=True)
        for name, value in environment().items():
            monkeypatch.setenv(name, value)
        replayed = replay(tmp_path / "run", 2, 0, lambda line: None)
        assert replayed.ok, replayed.render()

    def test_planted_fault_is_named_with_its_step(self, tmp_path):
        with suppress(TrainingFailed):
            type(self).train(tmp_path / "run", fault="rate")
        found = divergence(read(open_record(tmp_path / "run")))
        verdict = judge(found, divergence.limit, "default", lambda outcome: True)
        assert verdict.outcome == Outcome.FAILED, verdict
        assert found.reading.evidence["onset"] in (15, 16, 17)

    def test_recording_changes_no_weight(self, tmp_path):
        one_epoch = {"dropout": 0.0, "max_steps": blobs.SAMPLES // blobs.BATCH}
        with_record = type(self).train(tmp_path / "run", **one_epoch)
        without = type(self).train(tmp_path / "run", **one_epoch, record=False)
        for a, b in zip(with_record.state_dict().values(), without.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SWITCHBACK_QUIET": "1"}
