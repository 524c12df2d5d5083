"""The values that the page shows."""

import pytest

from ci_tools.release.api.tail import Seen, Tail
from ci_tools.release.api.view import view
from ci_tools.release.judge import Outcome
from tests.release.api import scenes
from tests.release.api.scenes import CANARY, CHAMPION, Staged

NOTHING = Seen(head=None, events=(), weights=())


def seen(status, ledger=()):
    return view(status, Tail(Staged(status, ledger)).look())


def test_counts_of_both_arms_stand_beside_each_other():
    status = scenes.ramping()
    rows = {row.name: row for row in seen(status).rows}
    counts = {one.metric: one.counts for one in status.decision.verdicts}
    errors = counts["events.errors"]
    assert rows["events.errors"].canary == f"{errors['canary']} of {errors['canary_requests']:,}"
    assert rows["events.errors"].baseline == f"{errors['baseline']} of {errors['baseline_requests']:,}"
    assert rows["flips"].canary == f"{counts['flips']['flips']} of {counts['flips']['pairs']:,} pairs"
    assert (rows["labels"].canary, rows["labels"].outcome) == ("0 labels", "no data")


def test_bars_are_full_exactly_when_the_outcome_is_reached():
    for status in (scenes.ramping(), scenes.rolled_back()):
        for row, verdict in zip(seen(status).rows, status.decision.verdicts, strict=True):
            assert (row.harm == 1.0) == (verdict.outcome is Outcome.HARMFUL), row.name
            if verdict.outcome in (Outcome.SAFE, Outcome.OPEN):
                assert (row.safe == 1.0) == (verdict.outcome is Outcome.SAFE), row.name


def test_evidence_of_harm_never_falls_and_ends_at_its_largest():
    status = scenes.rolled_back()
    for curve, verdict in zip(seen(status).charts["metrics"], status.decision.verdicts, strict=True):
        assert curve["harm"] == sorted(curve["harm"])
        assert len(curve["seconds"]) == len(curve["harm"]) == len(curve["safe"])
        if curve["harm"]:
            assert curve["harm"][-1] == pytest.approx(verdict.log10_harm, abs=0.01)  # a trace has two places
            assert curve["seconds"][-1] == status.decision.seconds


def test_weights_begin_at_none_and_reach_to_now():
    seconds, percent = seen(scenes.ramping(), scenes.ramp()).charts["weights"]
    assert (seconds[0], percent[0]) == (0.0, 0.0)
    assert (seconds[-1], percent[-1]) == (180.0, 16.0)
    assert seconds == sorted(seconds)


def test_weight_that_is_not_in_force_is_said_not_to_be():
    assert ("Canary's weight", "4 % (not in force)") in seen(scenes.held()).facts
    assert ("Canary's weight", "16 %") in seen(scenes.ramping()).facts


def test_idle_service_shows_its_champion_and_no_release():
    found = seen(scenes.idle())
    assert (found.champion, found.facts, found.rows) == (CHAMPION[:12], (), ())
    assert found.charts == {"weights": [[], []], "metrics": []}


def test_release_that_ended_is_the_last_one():
    assert ("Last release", CANARY[:12]) in seen(scenes.rolled_back()).facts


def test_newest_event_comes_first_with_its_own_sentence():
    lines = seen(scenes.ramping(), scenes.ramp()).events
    assert [line.seq for line in lines] == [6, 5, 4, 3, 2, 1]
    assert lines[0].body.startswith("16 %: Not yet proven")
    assert lines[-1].body == f"Bundle {CANARY[:12]}, to be compared with {CHAMPION[:12]}."


def test_long_sentence_is_cut():
    (line,) = seen(scenes.idle(), scenes.events(("held", {"reason": "x" * 10_000}))).events
    assert len(line.body) == 400


def test_judge_is_quoted_while_it_judges_only():
    decision = scenes.judged()
    assert seen(scenes.ramping()).judge == decision.sentence
    by_hand = scenes.rolled_back().model_copy(update={"decision": decision})
    assert decision.sentence.startswith("Not yet proven")
    assert [seen(one).judge for one in (scenes.idle(), scenes.watching(), by_hand)] == ["", "", ""]


def test_start_of_a_controller_is_told_in_words():
    (line,) = seen(scenes.idle(), scenes.events(("started", {"pid": 4711}))).events
    assert line.body == "A controller began to work, as process 4711."
