import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from ci_tools.record import open_record
from ci_tools.repro.compare import compare
from tests.record import toy


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
    streams = [f"{name}.arrows" for name in ("trace", "probes", "evals", "losses", "shadows")]
    manifests = [f"checkpoints/step-{step:08d}/manifest.json" for step in (90, 100, 120)]
    names = [*streams, "margins.parquet", "scores.parquet", "metrics.json", *manifests]
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
