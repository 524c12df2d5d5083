"""Whole releases in virtual time, with real files and simulated traffic: each ends as its cause demands."""

import os
import sqlite3

import pytest

from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.release.control import Phase, Result
from ci_tools.release.home import Home
from ci_tools.release.judge import Action
from ci_tools.release.ledger import Ledger
from ci_tools.release.plan import Lease, Plan, Role
from ci_tools.release.registry import KEPT
from tests.release.controller.fleet import Fleet, Truth, installed, kinds, play


@pytest.fixture
def fleet(tmp_path):
    return Fleet(Home(tmp_path))


def ended(status):
    return status.release.result is not None


def held(status):
    return status.release.phase is Phase.HELD


def reaches(phase):
    return lambda status: status.release.phase is phase


def begin(fleet, truth=None, until=None):
    """A release of a candidate, run until a condition; returns controller, status, and the candidate's digest."""
    controller, second = installed(fleet)
    fleet.truth = truth or Truth(errors=0.01)
    controller.submit(second, "ann")
    return controller, play(fleet, controller, until or ended), second


def test_a_healthy_candidate_is_promoted_watched_and_then_alone(fleet):
    controller, status, second = begin(fleet)
    assert (status.champion, status.release.result) == (second, Result.PROMOTED)
    assert status.release.phase is Phase.WATCHING
    assert status.release.canary_weight == 0.0
    assert {member.role for member in fleet.actual.members} == {Role.STABLE, Role.PREVIOUS}
    play(fleet, controller, reaches(Phase.IDLE), 30)
    assert Plan.model_validate_json(fleet.home.plan.read_bytes()).pools == {Role.STABLE: second}
    found = [kind for kind in kinds(controller) if kind != "weight"]
    assert found == ["started", "installed", "submitted", "ramping", "deciding", "promoting", "watching", "watched"]
    assert "weight" in kinds(controller)
    with Ledger(fleet.home.ledger, readonly=True) as ledger:
        assert ledger.verify() == len(controller.events())


@pytest.mark.parametrize(
    ("truth", "metric"),
    [
        (Truth(errors=0.3), "events.errors: canary"),
        (Truth(errors=1.0), "events.errors: canary"),
        (Truth(errors=0.01, slower=4.0), "latency.p50: canary"),
        (Truth(errors=0.01, flips=0.2), "mirrored requests were decided differently"),
        (Truth(errors=0.01, invalid=True), "mirrored requests were decided differently"),
        (Truth(errors=0.01, hangs=1.0), "events.timeouts: canary"),
        (Truth(errors=0.01, hangs=0.5), "events.timeouts: canary"),
    ],
)
def test_a_bad_candidate_is_rolled_back_for_what_is_wrong_with_it(fleet, truth, metric):
    controller, status, second = begin(fleet, truth)
    assert status.release.result is Result.ROLLED_BACK
    assert metric in status.release.reason
    assert "worse than tolerated, beyond chance" in status.release.reason
    assert status.champion != second
    fleet.step()
    assert fleet.actual.members[0].bundle == status.champion
    before = fleet.served[Role.CANARY]
    fleet.step(2.0)
    assert fleet.served[Role.CANARY] == before
    assert kinds(controller)[-2:] == ["deciding", "rolled back"]


def test_what_the_judge_saw_stays_to_be_seen_after_the_end_and_a_restart(fleet):
    controller, status, _ = begin(fleet, Truth(errors=0.3))
    assert status.decision.action is Action.ROLL_BACK
    assert status.release.reason == status.decision.sentence
    controller.close()
    assert fleet.controller().status().decision == status.decision


def test_what_the_judge_saw_is_kept_where_a_person_rolls_back(fleet):
    controller, _, _ = begin(fleet, until=reaches(Phase.RAMPING))
    status = controller.roll_back("ann", "scores look wrong")
    assert status.decision.action is Action.CONTINUE


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_slow_timeouts_of_much_traffic_are_the_candidates_and_not_lost_counts(fleet, share):
    fleet.rate, fleet.timeout = 400.0, 5.0
    fleet.policy.write_text(fleet.policy.read_text().replace("min_seconds: 5.0", "min_seconds: 40.0"))
    controller, _, _ = begin(fleet, until=lambda status: status.release.canary_weight >= 0.2)
    fleet.truth = Truth(errors=0.01, hangs=share)
    status = play(fleet, controller, lambda status: ended(status) or held(status))
    assert status.release.result is Result.ROLLED_BACK
    assert status.release.reason.startswith("events.timeouts: canary")


def test_wrong_decisions_are_seen_before_the_candidate_answers_anybody(fleet):
    _, status, _ = begin(fleet, Truth(flips=0.5))
    assert status.release.result is Result.ROLLED_BACK
    assert fleet.served[Role.CANARY] == 0


def test_a_candidate_that_crashes_is_rolled_back_without_statistics(fleet):
    _, status, _ = begin(fleet, Truth(failed="signal 11: segmentation fault"))
    assert status.release.result is Result.ROLLED_BACK
    assert "signal 11: segmentation fault. This is no statistic" in status.release.reason
    assert fleet.served[Role.CANARY] == 0


def test_a_candidate_that_never_gets_ready_is_rolled_back(fleet):
    _, status, _ = begin(fleet, Truth(starting=True))
    assert "was not ready for 10 s" in status.release.reason


def test_without_traffic_a_release_is_held_and_at_the_deadline_inconclusive(fleet):
    controller, status, _ = begin(fleet, until=reaches(Phase.RAMPING))
    fleet.rate = 0.0
    status = play(fleet, controller, held)
    assert status.release.reason.startswith("The canary had no request for 5 s.")
    assert status.release.canary_weight == 0.1
    status = play(fleet, controller, ended)
    assert status.release.result is Result.INCONCLUSIVE
    assert status.release.seconds == pytest.approx(45, abs=1)
    assert "weight" not in kinds(controller)


def test_traffic_that_comes_back_goes_on(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    fleet.rate = 0.0
    play(fleet, controller, held)
    fleet.rate = 160.0
    assert play(fleet, controller, ended).champion == second
    assert "went on" in kinds(controller)


def test_lost_telemetry_freezes_the_weight_then_lets_the_lease_expire_then_goes_on(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    fleet.logging = False
    status = play(fleet, controller, held)
    assert "Envoy answers requests of which the access log says nothing" in status.release.reason
    assert status.warnings
    assert fleet.actual.leased
    weight = status.release.canary_weight
    play(fleet, controller, lambda status: not status.actual.leased, 20)
    canary = fleet.served[Role.CANARY]
    for _ in range(8):
        fleet.step()
        controller.tick()
    assert fleet.served[Role.CANARY] == canary
    assert controller.status().release.canary_weight == weight
    fleet.logging = True
    assert play(fleet, controller, ended).champion == second


def test_damaged_lines_hold_a_release(fleet):
    controller, _, _ = begin(fleet, until=reaches(Phase.RAMPING))
    with fleet.home.access_log.open("a") as file:
        file.write('{"id": "q1", "arm"\n')
    status = play(fleet, controller, held, 5)
    assert "1 lines of the access log are damaged" in status.release.reason


def test_a_silent_supervisor_holds_a_release(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    fleet.supervised = False
    status = play(fleet, controller, held, 10)
    assert status.release.reason == "The supervisor does not tell what runs, for 3 s."
    fleet.supervised = True
    assert play(fleet, controller, ended).champion == second


def test_labels_in_the_watch_phase_bring_the_champion_before_back(fleet):
    controller, status, second = begin(fleet, Truth(errors=0.01, dull=True))
    assert (status.champion, status.release.result) == (second, Result.PROMOTED)
    before = status.previous
    with sqlite3.connect(fleet.home.pairs) as db:
        truth = {id_: float(score >= 0.5) for id_, score in db.execute("SELECT id, champion FROM pairs")}
    db.close()
    assert len(truth) > 100
    assert controller.label(truth | {"unknown": 1.0}) == len(truth)
    assert controller.label(truth) == len(truth)
    status = play(fleet, controller, reaches(Phase.IDLE), 10)
    assert (status.champion, status.release.result) == (before, Result.ROLLED_BACK)
    assert "labels: mean loss +0." in status.release.reason
    assert f"on {len(truth)} labels" in status.release.reason
    assert controller.label(truth) == 0


def test_a_flood_of_labels_leaves_room_to_renew_the_lease(fleet, monkeypatch):
    controller, _, _ = begin(fleet, until=reaches(Phase.RAMPING))
    keep, sizes = controller._pairs.label, []
    monkeypatch.setattr(controller._pairs, "label", lambda some: sizes.append(len(some)) or keep(some))
    assert controller.label({f"unknown{number}": 1.0 for number in range(12_000)}) == 0
    assert sizes == [5_000, 5_000, 2_000], "the lock is let go in between"


def test_a_new_champion_whose_server_fails_is_left_for_the_one_before(fleet):
    controller, status, second = begin(fleet)
    before = status.previous
    fleet.champion_failed = second
    status = play(fleet, controller, reaches(Phase.IDLE), 5)
    assert (status.champion, status.release.result) == (before, Result.ROLLED_BACK)
    assert "The new champion's server failed: exit code 1: out of memory." in status.release.reason


def test_a_jump_of_the_calendar_changes_nothing(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    for jump in (-9e6, 9e6):
        fleet.clock.jump = jump
        play(fleet, controller, lambda status: True)
    assert play(fleet, controller, ended).champion == second


def test_a_person_may_pause_for_longer_than_the_deadline(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    controller.pause("ann", "lunch")
    weight = controller.status().release.canary_weight
    for _ in range(200):
        fleet.step()
        controller.tick()
    status = controller.status()
    assert (status.release.phase, status.release.reason, status.release.paused) == (Phase.HELD, "ann: lunch", True)
    assert status.release.canary_weight == weight
    resumed = controller.resume("ann", "back").release
    assert (resumed.phase, resumed.reason, resumed.paused) == (Phase.RAMPING, "", False)
    assert play(fleet, controller, ended).champion == second


def test_a_person_promotes_and_rolls_back(fleet):
    controller, status, second = begin(fleet, until=lambda now: now.actual.ready(Role.CANARY, now.release.bundle))
    before = status.champion
    assert controller.promote("ann", "hotfix").champion == second
    play(fleet, controller, reaches(Phase.WATCHING), 5)
    status = controller.roll_back("bob", "no good")
    assert (status.champion, status.release.reason) == (before, "bob: no good")
    assert [(event.kind, event.actor) for event in controller.events()[-3:]] == [
        ("promoting", "ann"), ("watching", "service"), ("rolled back", "bob")
    ]  # fmt: skip


def test_a_release_that_ends_while_it_is_paused_is_paused_no_more(fleet):
    controller, _, _ = begin(fleet, until=reaches(Phase.RAMPING))
    assert controller.pause("ann", "lunch").release.paused
    assert not controller.roll_back("ann", "no time").release.paused


def test_why_the_canary_got_its_first_weight_is_not_told_of_the_next_ones(fleet):
    controller, status, _ = begin(fleet, until=reaches(Phase.RAMPING))
    assert status.release.reason == ""
    assert any("copies; it gets" in str(event.body.get("reason")) for event in controller.events())


def test_the_same_bundle_joins_its_release(fleet):
    controller, status, second = begin(fleet, until=reaches(Phase.RAMPING))
    assert controller.submit(second, "bob").id == status.release.id
    play(fleet, controller, ended)
    assert controller.submit(second, "bob").result is Result.PROMOTED
    play(fleet, controller, reaches(Phase.IDLE), 30)
    assert controller.submit(second, "bob").id == status.release.id
    assert kinds(controller).count("submitted") == 1


def test_bundle_that_was_rolled_back_is_told_so_and_begins_anew_only_if_asked_to(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    controller.roll_back("ann", "a bad feeling")
    before = controller.status().release
    assert before.result is Result.ROLLED_BACK
    assert controller.submit(second, "bob") == before
    assert kinds(controller).count("submitted") == 1
    assert controller.submit(second, "bob", again=True).id != before.id
    assert kinds(controller).count("submitted") == 2


def test_another_bundle_is_refused_while_one_is_judged_and_ends_a_watch(fleet):
    controller, _, second = begin(fleet, until=reaches(Phase.RAMPING))
    third = fleet.bundle("third")
    with pytest.raises(ConfigError, match="one release at a time"):
        controller.submit(third, "bob")
    play(fleet, controller, ended)
    assert controller.submit(third, "bob").champion == second
    assert kinds(controller)[-2:] == ["watched", "submitted"]


@pytest.mark.parametrize("changes", [{"name": "other"}, {"inputs": ()}])
def test_a_bundle_that_answers_other_requests_is_refused(fleet, changes):
    controller, _ = installed(fleet)
    with pytest.raises(ConfigError, match="differ from the champion's"):
        controller.submit(fleet.bundle("second", **changes), "ann")
    with pytest.raises(ConfigError, match="no bundle 0000"):
        controller.submit("0000", "ann")


def test_a_ledger_that_was_edited_keeps_the_service_from_starting(fleet):
    controller, _ = installed(fleet)
    db = controller._ledger._db
    db.execute("DROP TRIGGER no_update")
    db.execute("UPDATE events SET actor = 'bob' WHERE seq = 2")
    controller.close()
    with pytest.raises(SwitchbackError, match="event 2 does not fit"):
        fleet.controller()


def test_a_second_controller_of_a_home_is_refused(fleet):
    first, _ = installed(fleet)
    with pytest.raises(ConfigError, match=rf"another controller runs here, as process {os.getpid()}"):
        fleet.controller()
    first.close()


def test_the_lease_is_lent_for_seconds_only_and_renewed(fleet):
    controller, _, _ = begin(fleet, until=reaches(Phase.RAMPING))
    lease = Lease.model_validate_json(fleet.home.lease.read_bytes())
    assert 0 < lease.until - fleet.clock.now() <= 3.0
    for _ in range(14):
        fleet.step()
    assert not fleet.actual.leased
    controller.tick()
    fleet.step()
    assert fleet.actual.leased


def test_old_bundles_go_and_those_that_a_return_needs_stay(fleet):
    old = [fleet.bundle(f"old {number}") for number in range(KEPT + 5)]
    for age, digest in enumerate(old):
        os.utime(fleet.home.bundles / digest, (age, age))
    controller, status, second = begin(fleet)
    assert {status.champion, status.previous} == {second, controller.events()[1].body["bundle"]}
    left = {path.name for path in fleet.home.bundles.glob("?" * 64)}
    assert left == {second, status.previous, *old[7:]}
