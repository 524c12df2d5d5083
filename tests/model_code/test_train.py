import itertools
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ci_tools.record import open_record
from ci_tools.repro.compare import compare
from ci_tools.repro.replay import replay
from model import metrics
from model.data import load_schema, load_split
from model.network import RiskNetwork
from model.params import Params
from model.train import main, null_loss, score, score_table, train
from tests.model_code.prepared import write_data

NETWORK = {"width": 8, "blocks": 1, "embedding": 3, "dropout": 0.1}
TRAIN = {
    "steps": 30,
    "batch_size": 64,
    "warmup": 5,
    "lr": 0.01,
    "evaluate_every": 10,
    "checkpoint_every": 10,
    "probe_every": 10,
    "threads": 1,
}
TEST_ROWS = 2000


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    write_data(folder, count=TEST_ROWS)
    return folder


def params(dropout=0.1, **options):
    return Params.model_validate({"network": {**NETWORK, "dropout": dropout}, "train": {**TRAIN, **options}})


@pytest.fixture
def run(data, tmp_path):
    """Train here; returns the record."""

    def trained(name="run", dropout=0.1, seed=1, **options):
        train(params(dropout, **options), seed, data, tmp_path / name)
        return open_record(tmp_path / name)

    return trained


@pytest.fixture
def command(data, tmp_path, monkeypatch, capsys):
    """Run the train stage's command line here; returns its exit code and what it said."""

    def called(folder=data, **options):
        path = tmp_path / "params.yaml"
        path.write_text(params(**options).model_dump_json())
        arguments = ["--seed", "1", "--params", str(path), "--data", str(folder), "--record", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        return main(), capsys.readouterr().err

    return called


def column(record, name):
    return record.trace.column(name).to_numpy()


# -- what params.yaml asks for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_every_optimizer_with_every_schedule(run, optimizer, schedule):
    record = run(optimizer=optimizer, schedule=schedule, steps=12, warmup=2, step_every=4, evaluate_every=6)
    assert record.meta.status == "finished"
    assert np.isfinite(column(record, "loss")).all()
    assert column(record, "lr")[1] == 0.01
    assert (column(record, "lr")[-1] < 0.01) == (schedule in ("step", "cosine"))


def test_learns_more_than_the_base_rate(run, data):
    record = run(steps=150, lr=0.02)
    label = load_split(data, "test").label
    assert record.metrics["average_precision"] > label.mean() + 0.2
    assert record.metrics["log_loss"] < -np.mean(np.where(label > 0, np.log(label.mean()), np.log(1 - label.mean())))


def test_accumulation_changes_nothing_but_rounding(run):
    options = {"dropout": 0.0, "optimizer": "sgd", "lr": 0.1, "steps": 12, "clip_norm": 0.0}
    one, four = run("one", **options), run("four", accumulate=4, **options)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(column(one, name), column(four, name), rtol=1e-4)
    assert column(one, "batch_digest").tolist() == column(four, "batch_digest").tolist()


def test_clipping_is_recorded(run):
    record = run(clip_norm=0.05, steps=12)
    norm, coefficient = column(record, "grad_norm"), column(record, "clip_coefficient")
    assert (norm > 0.05).all(), "statistics are those before clipping"
    np.testing.assert_allclose(coefficient, 0.05 / (norm + 1e-6), rtol=1e-5)
    assert (column(run(clip_norm=0.0, steps=12), "clip_coefficient") == 1).all()


def test_l1_shrinks_the_weight_matrices(run):
    def size(record):
        return sum(w.abs().sum().item() for name, w in load_file(record.weights).items() if w.dim() > 1)

    options = {"schedule": "constant", "steps": 60, "weight_decay": 0.0}
    assert size(run("with", l1=0.01, **options)) < 0.8 * size(run("without", **options))


def test_positive_weight_raises_the_scores(run):
    plain, weighted = (run(name, positive_weight=w, steps=60) for name, w in (("plain", 1.0), ("weighted", 10.0)))
    assert np.mean(weighted.scores["score"].to_numpy()) > np.mean(plain.scores["score"].to_numpy()) + 0.1


# -- what a run leaves behind -------------------------------------------------------------------------------------


def test_scores_are_those_of_the_released_weights(run, data, monkeypatch):
    falling, real = itertools.count(), metrics.quick
    monkeypatch.setattr(metrics, "quick", lambda *a: real(*a) | {"average_precision": -next(falling)})
    record, schema, test = run(), load_schema(data), load_split(data, "test")
    assert (record.meta.best_step, record.meta.steps) == (10, 30)
    table = record.scores
    assert table.column_names == ["id", "label", "score", "c0", "c1"]
    assert table.column("id").to_pylist() == test.id.tolist()
    assert table.column("label").to_pylist() == test.label.tolist()
    values = np.array(["(missing)", "a", "b", "c"])
    assert table.column("c1").to_pylist() == values[test.categorical[:, 1]].tolist()
    model = RiskNetwork(params().network, schema)
    model.load_state_dict(load_file(record.weights))
    fresh = score(model, test, torch.device("cpu"))
    np.testing.assert_array_equal(table.column("score").to_numpy(), fresh)
    assert record.metrics["log_loss"] == real(test.label, fresh)["log_loss"]


def test_scoring_does_not_depend_on_the_rows_scored_together(data):
    model, test = RiskNetwork(params().network, load_schema(data)), load_split(data, "test")
    device = torch.device("cpu")
    np.testing.assert_allclose(score(model, test, device, 7), score(model, test, device), atol=1e-6)


def test_released_checkpoint_is_the_best_on_validation(run):
    record = run(steps=40, evaluate_every=5)
    precision = [row for row in record.evals.to_pylist() if row["metric"] == "average_precision"]
    best = max(precision, key=lambda row: row["value"])
    assert (record.meta.best_step, record.meta.best_metric) == (best["step"], "average_precision")
    assert {row["split"] for row in precision} == {"validation"}


# -- the end of a run ---------------------------------------------------------------------------------------------

STILL = {"optimizer": "sgd", "lr": 1e-12, "early_stopping": 2, "evaluate_every": 5, "checkpoint_every": 5}
"""Nothing improves behind the first evaluation, so early stopping ends the run after step 15."""


def test_early_stopping_ends_the_run(run):
    record = run(**STILL)
    assert (record.meta.status, record.meta.steps, record.trace.num_rows) == ("finished", 15, 15)
    assert record.meta.total_steps == 30


def test_run_killed_behind_early_stopping_does_not_train_on_and_keeps_its_best(run, monkeypatch, tmp_path):
    def snapshot(*arguments):
        shutil.copytree(tmp_path / "whole", tmp_path / "killed")  # what SIGKILL would leave behind at this instant
        return score_table(*arguments)

    monkeypatch.setattr("model.train.score_table", snapshot)
    whole = run("whole", **STILL)
    monkeypatch.setattr("model.train.score_table", score_table)
    killed = run("killed", **STILL)
    assert [r.from_step for r in killed.meta.resumes] == [15]
    assert compare(killed.path, whole.path).identical
    assert (killed.meta.best_step, killed.meta.best_metric) == (5, "average_precision")
    assert killed.scores.equals(whole.scores)


@pytest.fixture(scope="module")
def stopped_early(data, tmp_path_factory):
    """A run of its own process that early stopping ended between two checkpoints, behind its best."""
    folder = tmp_path_factory.mktemp("stopped")
    path = folder / "params.yaml"
    options = params(**STILL | {"checkpoint_every": 100})
    path.write_text(options.model_dump_json())
    arguments = ["--seed", "1", "--params", str(path), "--data", str(data), "--record", str(folder / "run")]
    environment = {**os.environ, "SWITCHBACK_QUIET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "model.train", *arguments], check=True, env=environment)
    return options, folder / "run"


def test_two_processes_give_the_same_bits(stopped_early, data, tmp_path):
    options, record = stopped_early
    train(options, 1, data, tmp_path / "run")
    found = compare(record, tmp_path / "run")
    assert found.identical, found.render()


def test_run_that_stopped_early_can_be_replayed(stopped_early):
    meta = open_record(stopped_early[1]).meta
    assert (meta.best_step, meta.steps) == (5, 15)
    found = replay(stopped_early[1], segments=3, seed=0, echo=lambda _: None)
    assert found.ok, found.render()
    assert found.replayed == ["steps 0 to 5", "steps 5 to 15"]


def test_sigterm_leaves_a_run_that_resumes_to_the_same_bits(run, monkeypatch):
    whole, real = run("whole"), metrics.quick

    def terminate(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(metrics, "quick", terminate)
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 75
    monkeypatch.setattr(metrics, "quick", real)
    record = run()
    assert [r.from_step for r in record.meta.resumes] == [10]
    assert compare(whole.path, record.path).identical
    assert record.scores.equals(whole.scores)


# -- divergence ---------------------------------------------------------------------------------------------------

ABSURD = {"optimizer": "sgd", "lr": 1e5, "clip_norm": 0.0, "schedule": "constant", "warmup": 0, "steps": 60}


def test_divergence_fails_after_the_allowed_recoveries_and_keeps_the_evidence(command, tmp_path):
    code, said = command(**ABSURD, max_recoveries=2)
    assert code == 1
    assert "diverged at step" in said
    assert "2 of 2 recoveries used" in said
    record = open_record(tmp_path / "run")
    assert record.meta.status == "failed"
    assert len(record.meta.recoveries) == 2
    assert len(record.checkpoints) >= 1
    rates = {row["attempt"]: row["lr"] for row in record.trace.to_pylist()}
    assert rates == {0: 1e5, 1: 5e4, 2: 2.5e4}, "each attempt has half the rate of the one before"
    assert max(column(record, "loss")) > 20 or not np.isfinite(column(record, "loss")).all()


def test_divergence_recovers_once_the_rate_is_low_enough(run):
    record = run(**ABSURD, max_recoveries=30)
    recoveries = len(record.meta.recoveries)
    assert record.meta.status == "finished"
    assert 2 <= recoveries < 30
    final = record.final_trace()
    assert final.column("step").to_pylist() == list(range(60))
    assert final.column("lr")[-1].as_py() == 1e5 / 2**recoveries
    assert np.isfinite(record.scores.column("score").to_numpy()).all()


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_without_a_gpu_is_one_clear_error(command, tmp_path, precision):
    code, said = command(precision=precision, device="cpu")
    assert code == 2
    assert said == (
        f"error: params.yaml: train.precision: needs a GPU, got '{precision}'. Fix: use float32 on the CPU\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_that_is_not_there_is_one_clear_error(command):
    code, said = command(device="cuda")
    assert code == 2
    assert "train.device: no GPU on this machine" in said


def test_missing_data_is_one_clear_error(command, tmp_path):
    code, said = command(folder=tmp_path / "nowhere")
    assert code == 2
    assert said.startswith(f"error: {tmp_path / 'nowhere' / 'schema.json'}: there is no prepared data")
    assert said.count("\n") == 1


def test_batch_larger_than_the_data_is_one_clear_error(command):
    code, said = command(batch_size=4096)
    assert code == 2
    assert f"{TEST_ROWS} training samples do not fill one batch of 4096" in said


@pytest.mark.parametrize("weight", [0.3, 1.0, 20.0])
def test_null_loss_is_that_of_the_best_constant_answer(data, weight):
    """Against a search over constant logits, to 1e-6."""
    rows = load_split(data, "train")
    logits = torch.linspace(-8, 8, 20_001)
    label = torch.from_numpy(rows.label).mean()
    log = torch.nn.functional.logsigmoid
    loss = -(weight * label * log(logits) + (1 - label) * log(-logits))
    assert null_loss(rows, weight) == pytest.approx(float(loss.min()), abs=1e-6)
