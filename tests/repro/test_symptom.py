from types import SimpleNamespace

import numpy as np
import pytest

from ci_tools.repro.symptom import Course, find_symptom


def symptom_of(loss_S, norm_S=None, null_loss=None, reason="", onset=None):
    norm_S = np.ones(len(loss_S)) if norm_S is None else norm_S
    record = SimpleNamespace(
        path="run", meta=SimpleNamespace(recoveries=[], reason=reason, null_loss=null_loss, total_steps=100)
    )
    return find_symptom(record, Course(np.arange(len(loss_S)), np.asarray(loss_S, float), norm_S), onset)


def falling(steps=100):
    return 0.3 + 0.05 * np.sin(np.arange(steps)) + np.exp(-np.arange(steps) / 10)


def test_lasting_rise_is_the_onset_and_a_single_spike_is_not():
    loss_S = falling()
    loss_S[60] = 50.0
    loss_S[80:] = 5.0
    assert symptom_of(loss_S).onset == 80


def test_recorded_reason_tells_the_onset():
    loss_S = falling()
    loss_S[90:] = np.inf
    found = symptom_of(loss_S, reason="runs/a: diverged at step 90: loss is nan for 8 steps; 0 of 0 recoveries used")
    assert (found.onset, found.reason) == (90, "loss is nan for 8 steps")


def test_symptom_that_was_there_before_the_limit_held_begins_where_it_began():
    assert symptom_of(np.full(40, 100.0), null_loss=1.0, onset=10).onset == 0


def test_level_lies_halfway_between_the_past_and_a_fresh_model():
    loss_S = np.full(100, 0.4)
    loss_S[80:] = 1e9
    assert symptom_of(loss_S, null_loss=2.0).level == pytest.approx(1.2)
    loss_S[80:] = 0.8
    assert symptom_of(loss_S, null_loss=2.0).level == pytest.approx(0.6), "or the loss after it, where that is lower"


def test_suspects_are_the_onset_the_step_before_and_outlying_gradients():
    loss_S, norm_S = falling(), np.exp(0.2 * np.cos(np.arange(100)))
    loss_S[80:] = np.inf
    norm_S[70] = 400.0
    found = symptom_of(loss_S, norm_S)
    assert found.suspects == (70, 79, 80)
    assert found.outlier == 70
    assert found.excess == pytest.approx(400 / np.median(norm_S[30:70]))


def test_symptom_that_passes_by_itself_is_judged_where_it_is_worst():
    loss_S = falling()
    loss_S[80:92] = np.linspace(9, 10, 12)
    found = symptom_of(loss_S, onset=80)
    course = Course(np.arange(100), loss_S, np.ones(100))
    assert found.end == 100
    assert not found.shown_by(course)
    assert found.as_in(course).end == 92
    assert found.as_in(course).shown_by(course)
    assert found.as_in(Course.empty()) == found
