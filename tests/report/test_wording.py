import re

import pytest

from ci_tools.gates import Reason, gate, unmeasured
from ci_tools.gates.files import Verdicts
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.show import comparison, plain_lines
from ci_tools.gates.verdict import Outcome
from ci_tools.report import build, wording
from ci_tools.report.results import Metric
from tests.report import cases
from tests.report.left import verdict


def row(loss, interval, outcome, higher=True):
    main = 0.7912
    low, high = interval
    return Metric(
        metric="m",
        higher_is_better=higher,
        main=main,
        here=main - loss if higher else main + loss,
        interval=(None if high is None else -high, -low) if higher else (low, high),
        confidence=0.95,
        margin=0.02,
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("metric", "reads"),
    [
        (row(-0.0022, (-0.0054, 0.001), Outcome.PASSED), "noise"),
        (row(-0.0022, (-0.0054, -0.001), Outcome.PASSED), "better"),
        (row(0.0022, (0.001, 0.0054), Outcome.PASSED), "worse, within the margin"),
        (row(0.0022, (0.001, 0.0054), Outcome.PASSED, higher=False), "worse, within the margin"),
        (row(-0.0022, (-0.0054, -0.001), Outcome.PASSED, higher=False), "better"),
        (row(0.05, (0.03, 0.07), Outcome.FAILED), "worse, beyond the margin"),
        (row(0.01, (-0.01, 0.03), Outcome.INCONCLUSIVE), "noise; a loss beyond the margin is not ruled out"),
        (row(0.02, (0.01, 0.03), Outcome.INCONCLUSIVE), "worse; a loss beyond the margin is not ruled out"),
        (row(0.0, (0.0, 0.0), Outcome.PASSED), "identical"),
        (row(0.0, (-0.1, None), Outcome.INCONCLUSIVE), "noise; a loss beyond the margin is not ruled out"),
    ],
)
def test_change_reads_as_noise_or_not(metric, reads):
    assert wording.reading(metric) == reads


def test_change_is_here_minus_main_with_its_interval():
    levels, change = wording.change(row(-0.0022, (-0.0054, 0.001), Outcome.PASSED))
    assert (levels, change) == ("0.7912 → 0.7934", "+0.0022 (95 %: \u22120.0010 to +0.0054)")


@pytest.mark.parametrize(
    ("one", "numbers"),
    [
        (cases.judged("drift", Outcome.PASSED, 0.1, 0.25), "0.1 ≤ 0.25 PSI"),
        (cases.judged("drift", Outcome.FAILED, 0.6, 0.25, (0.5, None)), "0.6 (interval 0.5 to +∞) > 0.25 PSI"),
        (cases.judged("drift", Outcome.PASSED, 0.1, 0.25, (0.1, 0.1)), "0.1 ≤ 0.25 PSI"),
        (cases.judged("empty_rows", Outcome.FAILED, 1234567.0, 2.0), "1234567 > 2"),
        (cases.judged("drift", Outcome.INCONCLUSIVE, None, 0.25), ""),
        (cases.judged("empty_rows", Outcome.FAILED, 0.200004, 0.2), "0.200004 > 0.2"),
        (cases.judged("empty_rows", Outcome.PASSED, -0.0, 0.0), "0 ≤ 0"),
        (cases.judged("empty_rows", Outcome.FAILED, 0.1 + 0.2, 0.3), "0.30000000000000004 > 0.29999999999999999"),
        (cases.judged("empty_rows", Outcome.PASSED, 12.345678, 12.34568), "12.345678 ≤ 12.34568"),
        (cases.judged("empty_rows", Outcome.PASSED, -1.5, 0.0), "\u22121.5 ≤ 0"),
    ],
)
def test_numbers_of_a_verdict(one, numbers):
    assert wording.measured(one) == numbers


@pytest.mark.parametrize(("statistic", "limit"), [(0.200004, 0.2), (1.0, 1.0), (3.0, 2.0), (0.0, 1e-9)])
def test_terminal_and_comment_tell_a_statistic_from_its_limit_in_the_same_digits(statistic, limit):
    told = wording.measured(cases.judged("empty_rows", Outcome.PASSED, statistic, limit))
    assert comparison(verdict(statistic=statistic, threshold=limit, unit="")) == told.replace("\u2212", "-")
    left, right = re.split(" [>≤] ", told)
    assert (left == right) == (statistic == limit)


@pytest.mark.parametrize(
    ("reason", "statistic", "sentence"),
    [
        (Reason.NOT_EXPORTED, None, "No stage of dvc.yaml writes export/model.onnx, so there is nothing to release."),
        (None, None, "There was nothing to measure; the run's summary says why."),
        (None, 0.2, "The interval holds the limit: the evidence does not decide."),
        (Reason.NO_SHADOW, 0.2, "The evidence does not decide, for not all of it could be measured: the run took"),
    ],
)
def test_verdict_that_is_open_says_why(reason, statistic, sentence):
    assert wording.why(cases.judged("latency", Outcome.INCONCLUSIVE, statistic, 0.25, reason=reason)).startswith(
        sentence
    )


@pytest.mark.parametrize("reason", Reason)
def test_comment_gives_the_reason_that_the_terminal_gives(reason):
    @gate(limit=1.0, unit="")
    def blind():
        return unmeasured(reason)

    told = Judge(Policy(), None, "", 0).verdict(blind())
    heading = dict.fromkeys(("commit", "params_digest", "policy_digest", "started"), "")
    _, terminal, *_ = plain_lines(Verdicts(verdicts=(told,), dirty=False, **heading))
    assert wording.why(build.judged(told)).lower() == f"{terminal.strip()}.".lower()


def test_comparison_that_does_not_decide_needs_more_evidence_not_another_model():
    one = cases.judged("quality_against_main", Outcome.INCONCLUSIVE, 0.01, 0.02, (-0.01, 0.03))
    assert "max_seeds" in wording.remedy(one)
    assert "max_seeds" not in wording.remedy(one.model_copy(update={"outcome": Outcome.FAILED}))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"step": 213.0, "onset": 210.0}, "At step 210."),
        ({"first_step": 1200.0, "layer": "input.bias"}, "At step 1,200, in `input.bias`."),
        ({"column": "amount", "size": 0.3}, "In `amount`."),
        ({"layer": 3.0, "step": "x"}, ""),
        ({"step": -1.0}, ""),
        ({"step": 1e300}, ""),
        ({}, ""),
    ],
)
def test_first_step_and_layer_are_told_where_they_are_known(facts, said):
    assert wording.place(cases.judged("divergence", Outcome.FAILED, 2.0, 1.0, facts=cases.facts(**facts))) == said
