import itertools
import math
import random

import pytest

from ci_tools.errors import RecordError
from ci_tools.gates import Outcome, Reading, gate, unmeasured, worst
from ci_tools.gates.verdict import judge


@gate(limit=8.0, unit="robust z", remedy="halve the learning rate", calibrated=True)
def jump(value):
    """How far the loss left its past."""
    if value == "damaged":
        raise RecordError("trace.arrows is damaged", where="runs/seed-1")
    return Reading(statistic=value, diagnosis=f"jumped by {value}") if value is not None else unmeasured("no steps")


def judged(measurement, threshold=8.0, blocks=lambda outcome: outcome is Outcome.FAILED):
    return judge(measurement, threshold, "default", blocks)


def outcome_of(low, high, threshold):
    @gate(limit=threshold, unit="")
    def spread():
        return Reading(statistic=(low + high) / 2, interval=(low, high), diagnosis="d")

    return judged(spread(), threshold).outcome


def test_outcomes_are_ordered_and_only_the_first_is_a_pass():
    assert sorted(Outcome, key=lambda outcome: outcome.rank) == ["passed", "inconclusive", "error", "failed"]


def test_worst_of_nothing_is_no_pass():
    assert worst([]) is Outcome.INCONCLUSIVE
    assert worst([Outcome.PASSED, Outcome.ERROR, Outcome.INCONCLUSIVE]) is Outcome.ERROR
    assert worst([Outcome.PASSED]) is Outcome.PASSED


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (7.9, "passed"),
        (8.0, "passed"),
        (8.1, "failed"),
        (math.inf, "failed"),
        (-math.inf, "passed"),
        (None, "inconclusive"),
    ],
)
def test_exact_statistic_is_compared_with_the_threshold(value, outcome):
    assert judged(jump(value)).outcome == outcome


def test_interval_decides_only_where_all_of_it_lies_on_one_side():
    draw = random.Random(0)
    seen = set()
    for _ in range(500):
        low, high = sorted(draw.choice([draw.uniform(0, 2), 1.0]) for _ in range(2))
        above = [point > 1.0 for point in (low, (low + high) / 2, high)]
        expected = Outcome.FAILED if all(above) else Outcome.INCONCLUSIVE if any(above) else Outcome.PASSED
        assert outcome_of(low, high, 1.0) is expected, (low, high)
        seen.add(expected)
    assert seen == {Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED}


def test_interval_with_an_unknown_end_decides_nothing():
    assert outcome_of(5.0, math.nan, 1.0) is Outcome.INCONCLUSIVE


def test_gate_has_the_name_and_words_of_its_function():
    assert (jump.name, jump.__doc__) == ("jump", "How far the loss left its past.")
    measurement = jump(9.0)
    assert (measurement.gate, measurement.unit, measurement.limit, measurement.floor) == ("jump", "robust z", 8.0, 4.0)


def test_what_cannot_be_read_is_an_error_and_not_an_exception():
    verdict = judged(jump("damaged"))
    assert verdict.outcome is Outcome.ERROR
    assert verdict.diagnosis == "runs/seed-1: trace.arrows is damaged"
    assert verdict.statistic is None


def test_error_names_what_was_to_be_measured():
    @gate(limit=1.0, unit="")
    def floor(run, metric):
        raise RecordError("is damaged", where=run)

    assert judged(floor("runs/seed-1", "roc_auc")).subject == "runs/seed-1"
    assert judged(floor(object(), "roc_auc")).subject == "roc_auc"


def test_defect_of_a_gate_is_not_taken_for_bad_input():
    @gate(limit=1.0, unit="")
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()


@pytest.mark.parametrize(
    ("values", "chosen"),
    [([1.0, 9.0, 3.0], "jumped by 9.0"), ([None, 3.0], "jumped by 3.0"), ([None, None], "no steps"), ([], "nothing")],
)
def test_over_several_runs_the_worst_speaks(values, chosen):
    assert chosen in jump.over(values).reading.diagnosis


def test_over_several_runs_further_arguments_are_the_same_for_all():
    @gate(limit=1.0, unit="")
    def above(value, reference):
        return Reading(statistic=value - reference, diagnosis="d")

    assert above.over([5.0, 7.0], 4.0).reading.statistic == 3.0


def test_run_that_cannot_be_read_outranks_the_worst_statistic():
    assert judged(jump.over([2.0, "damaged", 1.0])).outcome is Outcome.ERROR
    assert judged(jump.over([None, "damaged"])).outcome is Outcome.ERROR
    failed = judged(jump.over([99.0, "damaged", 1.0]))
    assert (failed.outcome, failed.diagnosis.startswith("jumped by 99.0")) == (Outcome.FAILED, True)


def test_nothing_to_look_at_is_no_pass():
    assert judged(jump.over([])).outcome is Outcome.INCONCLUSIVE


def test_over_intervals_the_highest_lower_end_speaks_and_no_upper_end_is_forgotten():
    @gate(limit=1.0, unit="")
    def wide(interval):
        return Reading(statistic=sum(interval) / 2, interval=interval, diagnosis=str(interval))

    found = wide.over([(0.0, 9.0), (0.5, 0.9)])
    assert (found.reading.interval, found.reading.diagnosis) == ((0.5, 9.0), "(0.5, 0.9)")
    assert judged(found, 1.0).outcome is Outcome.INCONCLUSIVE
    assert wide.over([(0.0, 0.4), (0.5, 0.9)]).reading.interval == (0.5, 0.9)


def test_run_that_cannot_be_measured_keeps_the_others_from_passing_but_not_from_failing():
    passing, failing = jump.over([1.0, None, 2.0]), jump.over([1.0, None, 99.0])
    assert judged(passing).outcome is Outcome.INCONCLUSIVE
    assert passing.reading.diagnosis == "jumped by 2.0 Not measured in 1 of 3: no steps"
    assert judged(failing).outcome is Outcome.FAILED
    assert judged(jump.over([None, None])).outcome is Outcome.INCONCLUSIVE


def test_worst_run_is_named():
    class Named(float):
        name = property(lambda self: f"seed-{self:.0f}")

    assert jump.over([Named(1), Named(3), Named(2)]).reading.subject == "seed-3"


def test_time_of_all_runs_counts(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("ci_tools.gates.verdict.time.perf_counter", lambda: float(next(ticks)))
    assert jump(1.0).seconds == 1.0
    assert jump.over([1.0] * 50).seconds == 50.0


def test_subject_may_set_its_own_limit_which_no_calibration_changes():
    @gate(limit=1.0, unit="", calibrated=True)
    def floor():
        return Reading(statistic=3.0, limit=5.0, diagnosis="d")

    measurement = floor()
    assert (measurement.limit, measurement.calibrated) == (5.0, False)


def test_remedy_is_for_what_did_not_pass_and_the_nearer_one_wins():
    @gate(limit=1.0, unit="", remedy="general")
    def own(value, remedy):
        return Reading(statistic=value, diagnosis="d", remedy=remedy)

    assert judged(own(9.0, ""), 1.0).remedy == "general"
    assert judged(own(9.0, "particular"), 1.0).remedy == "particular"
    assert judged(own(0.0, "particular"), 1.0).remedy == ""


def test_gates_remedy_is_not_offered_for_what_was_not_measured():
    assert judged(jump(None)).remedy == ""
    assert judged(jump("damaged")).remedy == "", "the error names its own"


def test_verdict_reads_as_a_sentence():
    assert str(judged(jump(9.0))) == "failed: jump: jumped by 9.0 Fix: halve the learning rate"
    assert str(judged(jump(1.0))) == "passed: jump: jumped by 1.0"


def test_numbers_that_are_not_finite_are_left_out():
    verdict = judged(jump(math.inf), math.inf)
    assert (verdict.statistic, verdict.threshold) == (None, None)
