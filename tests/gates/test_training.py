"""What the gates see of a record."""

import numpy as np
import pytest

from ci_tools.errors import RecordError
from ci_tools.gates import training
from ci_tools.record import open_record
from tests.record import toy


def test_only_losses_of_validation_are_looked_at(tmp_path):
    def also(step, run):
        if step % 30 == 0:
            run.evaluated("train", {}, losses=np.zeros(7))

    plain = training.read(open_record(toy.train(tmp_path / "plain")))
    both = training.read(open_record(toy.train(tmp_path / "both", on_step=also)))
    assert plain.example_loss_EV.shape == (4, 480)
    np.testing.assert_array_equal(both.example_loss_EV, plain.example_loss_EV)
    assert both.example_step_E.tolist() == [30, 60, 90, 120]


def test_evaluations_of_different_examples_are_refused(tmp_path):
    def other(step, run):
        if step == 50:
            run.evaluated("validation", {}, losses=np.zeros(7))

    with pytest.raises(RecordError, match="holds 7 losses in one evaluation and 480 in another"):
        training.read(open_record(toy.train(tmp_path / "run", on_step=other)))


def test_what_a_recovery_abandoned_is_left_out(tmp_path):
    record = open_record(toy.train(tmp_path / "run", bump="poison", at=65, max_recoveries=1))
    assert record.meta.recoveries
    seen = training.read(record)
    for steps in (seen.step_S, seen.example_step_E, seen.shadow_step_H, seen.probe_step_P):
        assert len(steps) > 1
        assert (np.diff(steps) > 0).all()
