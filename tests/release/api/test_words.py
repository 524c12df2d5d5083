"""What people are told of each state."""

import re

import pytest

from ci_tools.release.api import words
from ci_tools.release.control import Phase, Result
from ci_tools.release.judge import Outcome, Policy, Verdict
from tests.release.api import scenes


def test_every_phase_and_every_end_has_words():
    assert words.TITLES.keys() == words.MEANINGS.keys() == set(Phase)
    assert words.ENDS.keys() == set(Result)
    assert {end.tone for end in words.ENDS.values()} <= words.MARKS.keys()


def test_every_metric_of_the_default_policy_is_explained_or_named_by_the_policy():
    assert words.METRICS.keys() == {name for name in Policy().metrics if not name.startswith("latency.")}


@pytest.mark.parametrize(
    ("scene", "title", "sentence"),
    [
        (scenes.idle, "Idle", "serves all traffic"),
        (scenes.mirroring, "Mirroring", "answers nobody"),
        (scenes.ramping, "Ramping", "answers 16 % of the traffic"),
        (scenes.held, "Held", "(4 %), and nothing is promoted; harm still rolls back. The canary had no request"),
        (scenes.rolled_back, "Rolled back", "The champion serves all traffic. events.errors: canary"),
        (scenes.watching, "Promoted, and watched", "labels may still roll back"),
    ],
)
def test_state_is_told_with_its_reason(scene, title, sentence):
    said = words.said(scene())
    assert said.title == title
    assert sentence in said.sentence


def test_service_without_a_champion_says_what_comes():
    said = words.said(scenes.idle().model_copy(update={"champion": ""}))
    assert (said.title, said.tone) == ("Nothing is served yet", "calm")
    assert "Requests get 503" in said.sentence


def test_weights_that_are_not_in_force_leave_all_traffic_to_the_champion_that_there_is():
    assert words.in_force(scenes.ramping()) == "in force"
    assert words.in_force(scenes.held()) == "not in force: all traffic is on the champion"
    nobody = scenes.held().model_copy(update={"champion": ""})
    assert words.in_force(nobody) == "not in force: no bundle is served, and requests get 503"


@pytest.mark.parametrize(
    ("scene", "sensible"),
    [
        (scenes.idle, set()),
        (scenes.mirroring, {"pause", "rollback", "promote"}),
        (scenes.ramping, {"pause", "rollback", "promote"}),
        (scenes.held, {"pause", "rollback", "promote"}),
        (scenes.paused, {"resume", "rollback", "promote"}),
        (scenes.rolled_back, set()),
        (scenes.watching, {"rollback"}),
    ],
)
def test_orders_that_make_sense(scene, sensible):
    refusals = words.refusals(scene())
    assert {name for name, why in refusals.items() if not why} == sensible
    assert all(re.fullmatch(r"[a-z ]*", why) for why in refusals.values())


@pytest.mark.parametrize(
    ("log10", "told"),
    [(-400.0, "1e-09 to 1"), (-1.0, "0.1 to 1"), (0.0, "1 to 1"), (3.1, "1,259 to 1"), (7.0, "over a million to 1")],
)
def test_odds_as_a_person_reads_them(log10, told):
    assert words.odds(log10) == told


def verdict(interval, unit):
    return Verdict(metric="m", outcome=Outcome.OPEN, blocks=True, needed=True, counts={}, log10_harm=0.0,
                   log10_harm_needed=2.0, log10_safe=0.0, log10_safe_needed=1.3, trace=(), interval=interval,
                   unit=unit, sentence="m: open.")  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "unit", "told"),
    [
        (None, "share", "no data"),
        ((0.0, 0.0123), "share", "0 to 1.23 %"),
        ((4e-7, 0.0123), "share", "0 to 1.23 %"),
        ((-0.01, 0.02), "difference of the rates", "\u22121 to +2 %"),
        ((-0.01, 0.02), "difference of the mean scores", "\u22120.01 to +0.02"),
    ],
)
def test_interval_is_told_in_its_unit(interval, unit, told):
    assert words.interval(verdict(interval, unit)) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.9, "0 s"), (90, "1 min 30 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_duration_in_words(seconds, told):
    assert words.duration(seconds) == told
