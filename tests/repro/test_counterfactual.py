import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ci_tools import cli
from ci_tools.errors import RecordError
from ci_tools.record import SeededBatches, SeededLoader, open_record
from ci_tools.record.intervention import Intervention
from ci_tools.repro import counterfactual
from ci_tools.repro.counterfactual import Diagnosis, diagnose
from ci_tools.repro.segment import VARIABLE, Change, Segment, current_segment
from ci_tools.repro.symptom import Symptom
from tests.record import toy
from tests.record.server import program
from tests.repro.cases import BAD_STEP, CASES

FAST = ("features of one batch times 1000", "autocast to float16", "normal initial weights")


@pytest.fixture(scope="module")
def ask():
    with program("tests.repro.cases") as ask:
        yield ask


@pytest.fixture
def plant(ask, tmp_path, monkeypatch):
    """Train a case, and have its segments run by the same server; returns the record."""

    def train(name, seed=3, change_of=lambda change: change, run_as=None):
        def execute(segment, command):
            segment = replace(segment, change=change_of(segment.change))
            job = {"case": run_as or name, "seed": seed, "environment": segment.environment()}
            return subprocess.CompletedProcess(command, ask(record=segment.record, **job), "", "nothing to say")

        record = tmp_path / f"{name}-{seed}".replace(" ", "-")
        ask(record=str(record), case=name, seed=seed, environment={})
        monkeypatch.setattr(Segment, "execute", execute)
        return record

    return train


def quiet(line):
    """Drop what `diagnose` says while it works."""


@pytest.mark.parametrize("name", FAST)
def test_planted_cause_is_named(plant, name):
    found = diagnose(plant(name), quiet)
    assert found.cleared_by in CASES[name].cleared_by, found.render()
    assert found.trials[0].change == "nothing"
    assert found.trials[0].cleared is False


def test_corrupt_batch_is_named_by_its_step_and_gradient(plant):
    found = diagnose(plant("one missing value"), quiet)
    assert f"cleared by another batch at step {BAD_STEP} (gradient norm not finite)" in found.sentence()
    assert found.rewound_to == 40
    assert "a corrupt batch" in found.render()


def test_batch_is_blamed_last_where_its_gradient_was_usual():
    symptom = Symptom(onset=9, reason="", end=20, level=1.0, suspects=(8, 9), outlier=None, excess=1.0, usual_norm=1.0)
    trials = [counterfactual.Trial(name, name != "nothing", 0.5) for name in ("nothing", "batch", "half learning rate")]
    found = Diagnosis("a", 9, "", 1.0, 0, trials)
    assert counterfactual._name(found, SimpleNamespace(symptom=symptom)).cleared_by == "half learning rate"
    assert (
        counterfactual._name(replace(found, trials=trials[:2]), SimpleNamespace(symptom=symptom)).cleared_by == "batch"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4, 5, 6, 7])
def test_at_least_eight_of_ten_causes_are_named(plant, seed):
    found = {name: diagnose(plant(name, seed), quiet) for name in CASES}
    missed = {name: one.render() for name, one in found.items() if one.cleared_by not in CASES[name].cleared_by}
    assert len(CASES) == 10
    assert len(missed) <= 2, missed


def test_nothing_is_named_where_the_symptom_does_not_come_back(plant):
    record = plant(FAST[1], change_of=lambda change: replace(change, float64=True))
    found = diagnose(record, quiet)
    assert (found.cause, found.cleared_by) == ("", "")
    assert len(found.trials) == 1
    assert "nothing can be said to clear it" in found.sentence()


def test_nothing_is_named_where_no_change_helps(plant):
    found = diagnose(plant(FAST[2], change_of=lambda change: Change()), quiet)
    assert found.cause == ""
    assert "no single change cleared it" in found.sentence()
    assert [trial.cleared for trial in found.trials] == [False] * len(found.trials)


def test_other_params_are_refused(plant):
    with pytest.raises(RecordError, match="params differ from the record's: case"):
        diagnose(plant(FAST[2], run_as=FAST[0]), quiet)


def test_command_that_fails_is_quoted(plant, monkeypatch):
    record = plant(FAST[2])
    monkeypatch.undo()
    meta = json.loads((record / "run.json").read_text())
    meta["command"] = [sys.executable, "-c", "raise SystemExit('no data here')"]
    (record / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RecordError, match="its command failed: no data here"):
        diagnose(record, quiet)
    meta["command"] = ["no-such-program"]
    (record / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RecordError, match="cannot be run"):
        diagnose(record, quiet)


def test_healthy_run_is_refused_and_so_is_a_step_it_never_took(finished):
    with pytest.raises(RecordError, match="shows no divergence"):
        diagnose(finished, quiet)
    with pytest.raises(RecordError, match="its trace has no step 5000"):
        diagnose(finished, quiet, onset=5000)


# -- what a change does -----------------------------------------------------------------------------------------


def segment(monkeypatch, folder, steps, **change):
    monkeypatch.setenv(VARIABLE, Segment(str(folder), steps, Change(**change)).environment()[VARIABLE])


def test_segment_survives_the_environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert current_segment() is None
    for one in (Segment("a", 5), Segment("b", 7, Change(without=(3, 4), float64=True, seed=9))):
        monkeypatch.setenv(VARIABLE, one.environment()[VARIABLE])
        assert current_segment() == one


def test_segment_goes_on_through_divergence_without_recovery_or_checkpoint(tmp_path, monkeypatch):
    segment(monkeypatch, tmp_path / "again", 50)
    with pytest.raises(SystemExit):
        toy.train(tmp_path / "run", bump="nan", at=20, max_recoveries=2)
    record = open_record(tmp_path / "again")
    assert (record.meta.status, record.trace.num_rows, record.meta.recoveries) == ("replayed", 50, [])
    assert record.checkpoints == []
    assert not (tmp_path / "run").exists()


def test_unchanged_segment_repeats_the_record_bit_by_bit_and_each_change_does_not(tmp_path, monkeypatch, finished):
    expected = open_record(finished).trace.column("loss").to_pylist()[:40]
    changes = {"lr_factor": 0.5}, {"clip_norm": 0.1}, {"float64": True}, {"seed": 8}, {"initialise": True}
    for name, change in enumerate(({}, {"without": (30,)}, *changes)):
        segment(monkeypatch, tmp_path / f"again-{name}", 40, **change)
        with pytest.raises(SystemExit):
            toy.train(tmp_path / "run")
        losses = open_record(tmp_path / f"again-{name}").trace.column("loss").to_pylist()
        if "without" in change:
            assert losses[:30] == expected[:30]
            assert losses[30] != expected[30]
        else:
            assert (losses == expected) is (not change), change


def test_replaced_batch_is_another_one_of_the_segment():
    rows = toy.Rows(torch.arange(40.0)[:, None], torch.zeros(40, 1))
    loader = SeededLoader(rows, SeededBatches(40, 4, seed=1))
    batches = list(loader)
    intervention = Intervention(Change(without=(2, 3, 5)))
    intervention.begin(loader, 1, 2)
    got = [intervention.batch(step, batches[step]).x.flatten().tolist() for step in range(2, 7)]
    spare = batches[4].x.flatten().tolist()
    assert got == [spare, spare, spare, spare, batches[6].x.flatten().tolist()]


def test_rate_is_scaled_around_the_optimizer_step_only():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.4)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    Intervention(Change(lr_factor=0.5)).prepare(nn.Module(), optimizer)
    for expected in (1 - 0.2, 1 - 0.2 - 0.1):
        weight.grad = torch.ones(3)
        optimizer.step()
        schedule.step()
        assert weight.tolist() == pytest.approx([expected] * 3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_gradients_are_clipped_to_their_total_norm():
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    Intervention(Change(clip_norm=1.0)).prepare(nn.Module(), optimizer)
    for weight, value in zip(weights, (3.0, 4.0), strict=True):
        weight.grad = torch.tensor([value, 0.0])
    optimizer.step()
    assert [weight[0].item() for weight in weights] == pytest.approx([-0.6, -0.8], abs=1e-5)


def test_initialisation_is_pytorchs_own_and_draws_nothing_from_the_run():
    model = nn.Sequential(nn.Linear(8, 64), nn.LayerNorm(64))
    with torch.no_grad():
        model[0].weight.fill_(100.0)
        model[1].weight.fill_(7.0)
    state = torch.get_rng_state()
    Intervention(Change(initialise=True)).prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert model[0].weight.abs().max() <= 1 / np.sqrt(8)
    assert model[0].weight.std() > 0.1
    assert torch.equal(model[1].weight, torch.ones(64))


CASTS = {
    "none": lambda x: x,
    "float": lambda x: x.float(),
    "half": lambda x: x.half(),
    "to": lambda x: x.to(torch.bfloat16),
    "type": lambda x: x.type(torch.float16),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
@pytest.mark.parametrize("autocast", [False, True])
def test_float64_stays_float64_through_casts_and_autocast(cast, autocast):
    torch.manual_seed(0)
    model, x, beside = nn.Linear(5, 3), torch.randn(4, 5), torch.randn(3, 2)
    intervention = Intervention(Change(float64=True))
    intervention.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    with intervention.computing(), torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        wide = intervention.batch(0, toy.Rows(x, torch.zeros(4, dtype=torch.int64)))
        answer = model(cast(wide.x)) @ beside
        with intervention.measuring():
            assert wide.x.half().dtype == torch.float16
    assert wide.y.dtype == torch.int64
    expected = (x.double() @ model.weight.T + model.bias) @ beside.double()
    assert torch.allclose(answer, expected, rtol=1e-14, atol=1e-14)
    assert model(wide.x).dtype == torch.float64, "and nothing stays behind"


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "code"), [("a corrupt batch", 0), ("", 3)])
def test_command_exits_by_whether_a_cause_is_named(monkeypatch, capsys, tmp_path, cause, code):
    found = Diagnosis("a", 7, "loss is nan", 2.0, 0, [], cause=cause, explanation="the sentence")
    found.trials.append(counterfactual.Trial("nothing", False, 9.0))
    seen = []
    monkeypatch.setattr(counterfactual, "diagnose", lambda *arguments: seen.append(arguments) or found)
    monkeypatch.setattr(sys, "argv", ["switchback", "diagnose", str(tmp_path), "--step", "7", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    assert json.loads(capsys.readouterr().out)["sentence"] == "a: diverged at step 7 (loss is nan); the sentence"
    assert (seen[0][0], seen[0][2]) == (tmp_path, 7)
