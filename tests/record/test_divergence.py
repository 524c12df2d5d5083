"""Divergence ends a run, or sends it back to a good checkpoint."""

import numpy as np
import pytest

from ci_tools.errors import TrainingFailed
from ci_tools.record import open_record
from ci_tools.repro.compare import compare
from tests.record import toy


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
