"""What people may ask for, and what they are told where it makes no sense."""

import math

import pytest

from ci_tools.errors import ConfigError, DataError
from ci_tools.release.control import Phase
from ci_tools.release.controller import asking
from ci_tools.release.controller.machine import READY, Server
from ci_tools.release.controller.standing import Kind, Standing
from ci_tools.release.judge import Action, Policy
from ci_tools.release.plan import Health
from tests.release.controller.test_machine import after, begun, decision, reached


def test_first_bundle_is_champion_at_once():
    standing = after(Standing(), asking.submit(Standing(), "aaa", "ann", Policy(), 1.0))
    assert standing.champion == "aaa"
    assert standing.course.phase is Phase.IDLE


def test_a_second_release_is_refused_by_the_name_of_the_first():
    with pytest.raises(ConfigError, match=r"r2 of bundle bbb is in progress \(mirroring\); one release at a time"):
        asking.submit(begun(), "ccc", "ann", Policy(), 1.0)


def test_while_a_champion_is_only_watched_the_next_release_may_begin():
    assert asking.submit(reached(Phase.WATCHING), "ccc", "ann", Policy(), 1.0).kind is Kind.SUBMITTED


def test_an_outcome_that_nobody_counts_is_refused():
    policy = Policy.model_validate({"events": {"complaints": {}}})
    with pytest.raises(ConfigError, match=r"events\.complaints: nobody counts it"):
        asking.submit(reached(Phase.IDLE), "ccc", "ann", policy, 1.0)


@pytest.mark.parametrize("ask", [asking.pause, asking.resume])
@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.WATCHING, Phase.IDLE])
def test_nothing_to_pause_where_nothing_is_judged(ask, phase):
    with pytest.raises(ConfigError, match="nothing is being judged"):
        ask(reached(phase), "ann", "why not")


def test_resume_says_what_holds_a_release_that_nobody_paused():
    with pytest.raises(ConfigError, match=r"nobody paused r2; it is held .* Nobody sees it"):
        asking.resume(reached(Phase.HELD), "ann", "go")


def test_pausing_twice_names_who_did():
    standing = after(begun(), asking.pause(begun(), "ann", "lunch"))
    with pytest.raises(ConfigError, match="is paused already: ann: lunch"):
        asking.pause(standing, "bob", "also lunch")


def test_nothing_to_roll_back_after_the_watch():
    standing = reached(Phase.IDLE)
    with pytest.raises(ConfigError, match="nothing to roll back: all traffic is on the champion") as caught:
        asking.roll_back(standing, "ann", "regret", 0.0)
    assert standing.champion[:12] in str(caught.value)
    assert "`switchback release DIGEST`" in caught.value.fix
    with pytest.raises(ConfigError, match="nothing to roll back: nothing is served"):
        asking.roll_back(Standing(), "ann", "regret", 0.0)


def test_refusals_leave_it_to_the_client_to_say_who_refuses():
    """`where` would be told twice: whoever asks knows that it is the release service."""
    for refused in (
        lambda: asking.roll_back(Standing(), "ann", "regret", 0.0),
        lambda: asking.pause(Standing(), "ann", "lunch"),
        lambda: asking.submit(begun(), "ccc", "ann", Policy(), 1.0),
    ):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert caught.value.where == ""


def test_a_person_promotes_without_proof():
    move = asking.promote(reached(Phase.RAMPING), decision(), READY, 5.0, "ann", "hotfix")
    assert (move.kind, move.actor, move.body["reason"]) == (Kind.PROMOTING, "ann", "ann: hotfix")


def test_proven_harm_stands_above_a_person():
    harm = decision(Action.ROLL_BACK, sentence="events.errors: worse.")
    with pytest.raises(ConfigError, match=r"the judge has proven harm: events\.errors: worse"):
        asking.promote(reached(Phase.RAMPING), harm, READY, 5.0, "ann", "hotfix")


def test_what_does_not_run_is_not_promoted():
    with pytest.raises(ConfigError, match="the canary's server is starting"):
        asking.promote(begun(), decision(), Server(Health.STARTING), 5.0, "ann", "hotfix")


@pytest.mark.parametrize(("actor", "reason", "what"), [("", "x", "no actor"), ("ann", " ", "no reason")])
def test_who_and_why_are_needed(actor, reason, what):
    with pytest.raises(ConfigError, match=what):
        asking.pause(begun(), actor, reason)


@pytest.mark.parametrize("label", [math.nan, math.inf, -0.1, 1.1, True, "1"])
def test_labels_are_numbers_from_0_to_1(label):
    asking.labels({"q1": 0, "q2": 0.5, "q3": 1.0})
    with pytest.raises(DataError, match="label of 'q2'"):
        asking.labels({"q1": 1.0, "q2": label})
