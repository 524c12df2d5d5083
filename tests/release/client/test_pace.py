"""How long a release takes, as its client is told."""

import math

import pytest

from ci_tools.release.client import pace
from ci_tools.release.control import Phase
from ci_tools.release.judge import Action, Decision, Outcome, Verdict
from tests.release.api import scenes


def verdict(safe, *, outcome=Outcome.OPEN, seconds=600.0, pace=1.0, **more):
    """A metric whose evidence for safety grows by `pace` times `safe` over the time so far, evenly."""
    values = {"needed": True, "blocks": True} | more
    times = (0.0, seconds / 4, seconds / 2, seconds)
    trace = tuple((at, 0.0, safe - pace * safe * (1 - at / seconds)) for at in times)
    return Verdict(metric="m", outcome=outcome, counts={}, log10_harm=0.0, log10_harm_needed=2.0, interval=None,
                   log10_safe=safe, log10_safe_needed=1.3, trace=trace, unit="share", sentence="m.",
                   **values)  # fmt: skip


def decision(*verdicts, seconds=600.0):
    return Decision(action=Action.CONTINUE, then=Action.CONTINUE, seconds=seconds, weight=0.1, sentence="Not yet.",
                    verdicts=verdicts)  # fmt: skip


def status(*verdicts, per_second=0.5, seconds=600.0):
    release = scenes.release(Phase.RAMPING, weight=0.1, seconds=seconds)
    found = decision(*verdicts, seconds=seconds)
    return scenes.ramping().model_copy(update={"release": release, "decision": found, "per_second": per_second})


def test_metric_that_takes_longest_decides():
    """Evidence of 0.65 in 600 s: 1.3 takes 600 s more; of 0.13, 5400 s more."""
    assert pace.remaining(decision(verdict(0.65))) == pytest.approx(600)
    assert pace.remaining(decision(verdict(0.65), verdict(0.13))) == pytest.approx(5400)


def test_what_promotion_does_not_wait_for_delays_nothing():
    done, told = verdict(1.4, outcome=Outcome.SAFE), verdict(0.01, needed=False, blocks=False)
    assert pace.remaining(decision(verdict(0.65), done, told)) == pytest.approx(600)
    assert pace.remaining(decision(done)) is None


def test_evidence_that_does_not_grow_never_suffices():
    assert math.isinf(pace.remaining(decision(verdict(0.65), verdict(0.3, pace=0.0))))


def test_nothing_is_foretold_from_the_first_looks():
    early = verdict(0.65).model_copy(update={"trace": ((0.0, 0.0, 0.0), (5.0, 0.0, 0.1))})
    assert pace.remaining(decision(early)) is None
    assert pace.foretold(status(early)) == ""


@pytest.mark.parametrize(
    ("safe", "growth", "told"),
    [
        (0.65, 1.0, "About 10 min 0 s more at this pace."),
        (
            0.13,
            1.0,
            "It grows slowly at 0.5 requests per second: about 1 h 30 min more at this pace, and the deadline is in "
            "50 min 0 s.",
        ),
        (0.3, 0.0, "It does not grow now, at 0.5 requests per second; the deadline is in 50 min 0 s."),
    ],
)
def test_estimate_is_told_beside_the_deadline_where_that_comes_first(safe, growth, told):
    assert pace.foretold(status(verdict(safe, pace=growth))) == told


def test_release_without_traffic_is_told_that_nothing_can_be_proven():
    assert "without traffic nothing can be proven" in pace.expected(scenes.release(Phase.MIRRORING), 0.0)[-1]


def test_first_bundle_of_all_awaits_nothing():
    assert pace.expected(scenes.release(Phase.IDLE).model_copy(update={"terms": None}), 5.0) == []
