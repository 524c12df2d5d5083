"""The state machine as a table: where a release is, what is known, what follows."""

import json

import pytest

from ci_tools.release.control import Event, Phase, Result
from ci_tools.release.controller import asking, machine
from ci_tools.release.controller.machine import Facts, Server, step
from ci_tools.release.controller.settings import Settings
from ci_tools.release.controller.standing import Kind, Standing, apply, fold
from ci_tools.release.judge import Action, Decision, Policy
from ci_tools.release.plan import Health, Role

SETTINGS = Settings()
FAILED = Server(Health.FAILED, "exit code 1: no such file", 5)
STARTING = Server(Health.STARTING)


def decision(action=Action.CONTINUE, then=None, weight=0.05, sentence="Not yet proven: flips."):
    return Decision(action=action, then=then or action, seconds=60.0, weight=weight, sentence=sentence, verdicts=())


def event(standing, move, release="r2"):
    return Event(seq=standing.seq + 1, at="2026-01-01T00:00:00+00:00", kind=move.kind, actor=move.actor,
                 release=release, body=move.body, sha256="0" * 64)  # fmt: skip


def after(standing, *moves):
    for move in moves:
        standing = apply(standing, event(standing, move))
    return standing


def begun():
    first = after(Standing(), asking.submit(Standing(), "aaa", "ann", Policy(), 1.0))
    return after(first, asking.submit(first, "bbb", "ann", Policy(), 1.0))


def reached(phase):
    """A standing in which the release `bbb` has reached a phase."""
    standing = begun()
    ready = Facts(decision=decision(), copies=1000, phase_seconds=1000.0)
    path = {
        Phase.MIRRORING: (),
        Phase.RAMPING: (ready,),
        Phase.HELD: (ready, Facts(decision=decision(), trouble="Nobody sees it.")),
        Phase.DECIDING: (ready, Facts(decision=decision(Action.PROMOTE, sentence="Proven."))),
    }
    for facts in path.get(phase, (*path[Phase.DECIDING], *[Facts(decision=decision(), serving=False)])):
        standing = after(standing, step(standing, facts, SETTINGS))
    if phase in (Phase.WATCHING, Phase.IDLE):
        standing = after(standing, step(standing, Facts(decision=decision()), SETTINGS))
    if phase is Phase.IDLE:
        standing = after(standing, step(standing, Facts(decision=decision(), phase_seconds=9e9), SETTINGS))
    assert standing.course.phase is phase
    return standing


ENDED = Server(Health.READY, reason="used 612 MB of memory", restarts=1)
HARM = decision(Action.ROLL_BACK, sentence="events.errors: worse.")
QUIET = decision(Action.HOLD, sentence="The canary had no request for 60 s.")
TABLE = [
    # where it is, what is known, what follows, what the reason says
    (Phase.MIRRORING, {"copies": 49, "phase_seconds": 99}, None, ""),
    (Phase.MIRRORING, {"copies": 50, "phase_seconds": 9}, None, ""),
    (Phase.MIRRORING, {"copies": 50, "phase_seconds": 10}, Kind.RAMPING, "answered 50 copies; it gets 5 %"),
    (Phase.MIRRORING, {"copies": 50, "phase_seconds": 10, "canary": STARTING}, None, ""),
    (Phase.MIRRORING, {"copies": 50, "phase_seconds": 10, "baseline": STARTING}, None, ""),
    (Phase.MIRRORING, {"copies": 50, "phase_seconds": 10, "in_force": False}, None, ""),
    (Phase.MIRRORING, {"canary": FAILED}, Kind.ROLLED_BACK, "ended 5 times, exit code 1: no such file. This is no"),
    (Phase.MIRRORING, {"canary": Server(Health.STARTING, unready_seconds=59.0)}, None, ""),
    (Phase.MIRRORING, {"canary": Server(unready_seconds=60.0)}, Kind.ROLLED_BACK, "was not ready for 60 s. This is no"),
    (Phase.MIRRORING, {"decision": HARM}, Kind.DECIDING, "events.errors: worse."),
    (Phase.MIRRORING, {"decision": QUIET}, Kind.HELD, "no request for 60 s"),
    (Phase.MIRRORING, {"decision": decision(Action.PROMOTE)}, Kind.DECIDING, ""),
    (Phase.RAMPING, {"decision": decision(weight=0.1)}, Kind.WEIGHT, "5 % → 10 %: Not yet proven"),
    (Phase.RAMPING, {}, None, ""),
    (Phase.RAMPING, {"decision": decision(weight=0.1), "exercised": False}, None, ""),
    (Phase.RAMPING, {"decision": decision(weight=0.01), "exercised": False}, Kind.WEIGHT, "5 % → 1 %"),
    (Phase.RAMPING, {"decision": decision(weight=0.1), "waiting": True}, None, ""),
    (Phase.RAMPING, {"decision": decision(weight=0.1), "in_force": False}, None, ""),
    (Phase.RAMPING, {"decision": HARM}, Kind.DECIDING, "events.errors: worse."),
    (Phase.MIRRORING, {"decision": HARM, "unanswered": 1200}, Kind.DECIDING, "worse. 1,200 of the copies got no valid"),
    (
        Phase.RAMPING,
        {"decision": HARM, "canary": ENDED},
        Kind.DECIDING,
        "worse. The canary's server ended once by itself",
    ),
    (Phase.RAMPING, {"decision": HARM, "trouble": "The log is gone."}, Kind.DECIDING, "events.errors: worse."),
    (Phase.RAMPING, {"decision": decision(Action.PROMOTE)}, Kind.DECIDING, ""),
    (Phase.RAMPING, {"decision": decision(Action.PROMOTE), "trouble": "The log is gone."}, Kind.HELD, "log is gone"),
    (Phase.RAMPING, {"decision": decision(Action.PROMOTE), "canary": STARTING}, None, ""),
    (Phase.RAMPING, {"decision": QUIET}, Kind.HELD, "no request for 60 s"),
    (Phase.RAMPING, {"decision": decision(Action.INCONCLUSIVE, Action.ROLL_BACK)}, Kind.DECIDING, ""),
    (Phase.RAMPING, {"decision": decision(Action.INCONCLUSIVE, Action.HOLD)}, Kind.HELD, ""),
    (Phase.RAMPING, {"baseline": FAILED}, Kind.HELD, "baseline's server failed, there is nothing to compare with"),
    (Phase.RAMPING, {"canary": FAILED}, Kind.ROLLED_BACK, "could not be kept running"),
    (Phase.HELD, {"trouble": "Still nobody sees it."}, None, ""),
    (Phase.HELD, {"decision": QUIET}, Kind.HELD, "no request for 60 s"),
    (Phase.HELD, {}, Kind.WENT_ON, "What held it is over (telemetry)."),
    (Phase.HELD, {"decision": HARM}, Kind.DECIDING, "events.errors: worse."),
    (Phase.HELD, {"decision": decision(Action.INCONCLUSIVE, Action.ROLL_BACK), "trouble": "x"}, Kind.DECIDING, ""),
    (Phase.DECIDING, {}, Kind.PROMOTING, "Proven."),
    (Phase.PROMOTING, {"serving": False}, None, ""),
    (Phase.PROMOTING, {}, Kind.WATCHING, "Proven."),
    (Phase.PROMOTING, {"serving": False, "stable": FAILED}, Kind.ROLLED_BACK, "The new champion's server failed"),
    (Phase.PROMOTING, {"serving": False, "phase_seconds": 60}, Kind.ROLLED_BACK, "was not in force after 60 s"),
    (Phase.WATCHING, {"watch_seconds": 10, "phase_seconds": 9}, None, ""),
    (Phase.WATCHING, {"watch_seconds": 10, "phase_seconds": 10}, Kind.WATCHED, "The watch of 10 s is over."),
    (Phase.WATCHING, {"watch_seconds": 10, "stable": FAILED}, Kind.ROLLED_BACK, "The new champion's server failed"),
    (Phase.WATCHING, {"watch_seconds": 10, "decision": HARM}, Kind.DECIDING, "events.errors: worse."),
    (Phase.WATCHING, {"watch_seconds": 10, "decision": decision(Action.INCONCLUSIVE, Action.ROLL_BACK)}, None, ""),
    (Phase.IDLE, {"decision": HARM}, None, ""),
]


@pytest.mark.parametrize(("phase", "known", "kind", "reason"), TABLE)
def test_what_follows(phase, known, kind, reason):
    move = step(reached(phase), Facts(**{"decision": decision(), **known}), SETTINGS)
    assert (move and move.kind) == kind
    assert kind is None or reason in move.body["reason"]


def test_every_phase_of_the_table_occurs():
    assert {row[0] for row in TABLE} == set(Phase)


def test_canary_and_baseline_get_the_same_weight_and_few_copies_of_much_traffic():
    facts = Facts(decision=decision(weight=0.02), copies=50, phase_seconds=10.0, per_second=400.0)
    plan = after(begun(), step(begun(), facts, SETTINGS)).plan
    assert plan.canary_weight == plan.baseline_weight == 0.02
    assert plan.mirror_share == 0.05
    assert plan.serial == begun().plan.serial + 1


def test_nothing_reaches_the_candidate_before_it_answered_copies():
    plan = begun().plan
    assert (plan.canary_weight, plan.baseline_weight, plan.mirror_share) == (0.0, 0.0, 1.0)
    assert plan.pools == {Role.STABLE: "aaa", Role.BASELINE: "aaa", Role.CANARY: "bbb"}


def test_champion_changes_with_the_promotion_and_the_one_before_stays_warm():
    assert reached(Phase.DECIDING).champion == "aaa"
    standing = reached(Phase.PROMOTING)
    assert (standing.champion, standing.previous) == ("bbb", "aaa")
    assert standing.plan.pools == {Role.STABLE: "bbb", Role.PREVIOUS: "aaa"}
    assert reached(Phase.IDLE).plan.pools == {Role.STABLE: "bbb"}


@pytest.mark.parametrize("phase", [Phase.MIRRORING, Phase.RAMPING, Phase.HELD, Phase.PROMOTING, Phase.WATCHING])
def test_a_person_rolls_back_from_everywhere(phase):
    standing = reached(phase)
    back = after(standing, asking.roll_back(standing, "ann", "looks odd", 5.0))
    assert (back.champion, back.previous) == ("aaa", "")
    assert back.plan.pools == {Role.STABLE: "aaa"}
    assert (back.course.result, back.course.reason) == (Result.ROLLED_BACK, "ann: looks odd")
    assert back.course.phase is Phase.IDLE


def test_a_champion_that_changed_meanwhile_stays():
    standing = reached(Phase.DECIDING).model_copy(update={"champion": "ccc"})
    move = step(standing, Facts(decision=decision()), SETTINGS)
    assert move.kind is Kind.ROLLED_BACK
    assert "The champion is ccc now and was aaa" in move.body["reason"]


def test_the_deadline_is_inconclusive_and_says_so():
    standing = reached(Phase.RAMPING)
    facts = Facts(decision=decision(Action.INCONCLUSIVE, Action.ROLL_BACK, sentence="Not yet proven: flips."))
    for _ in range(2):
        standing = after(standing, step(standing, facts, SETTINGS))
    assert (standing.course.result, standing.course.reason) == (Result.INCONCLUSIVE, "Not yet proven: flips.")
    assert standing.plan.pools == {Role.STABLE: "aaa"}


def test_while_paused_only_harm_and_a_dead_canary_act():
    standing = after(reached(Phase.RAMPING), asking.pause(reached(Phase.RAMPING), "ann", "lunch"))
    assert standing.course.phase is Phase.HELD
    expired = decision(Action.INCONCLUSIVE, Action.ROLL_BACK)
    for known in (decision(Action.PROMOTE), expired, decision(weight=0.2), QUIET):
        assert step(standing, Facts(decision=known), SETTINGS) is None
    assert step(standing, Facts(decision=HARM), SETTINGS).kind is Kind.DECIDING
    assert step(standing, Facts(decision=decision(), canary=FAILED), SETTINGS).kind is Kind.ROLLED_BACK
    resumed = after(standing, asking.resume(standing, "ann", "back"))
    assert resumed.course.phase is Phase.RAMPING
    assert step(resumed, Facts(decision=decision(weight=0.1)), SETTINGS).kind is Kind.WEIGHT


def test_what_held_a_release_before_it_was_paused_does_not_count_as_its_phase():
    held = reached(Phase.HELD)
    paused = after(held, asking.pause(held, "ann", "lunch"))
    assert paused.course.goes_on is Phase.RAMPING
    assert after(paused, asking.resume(paused, "ann", "back")).course.phase is Phase.RAMPING


def test_folding_events_at_once_is_folding_them_one_by_one():
    installed = event(Standing(), asking.submit(Standing(), "aaa", "ann", Policy(), 1.0), "r1")
    first = fold([installed])
    submitted = event(first, asking.submit(first, "bbb", "ann", Policy(), 1.0))
    assert fold([installed, submitted]) == apply(first, submitted) == fold([submitted], first)


def test_deciding_keeps_the_evidence_in_the_ledger():
    move = machine.step(reached(Phase.RAMPING), Facts(decision=HARM), SETTINGS)
    assert move.actor == "judge"
    assert move.body["action"] == "roll back"
    assert Decision.model_validate_json(json.dumps(move.body["decision"])) == HARM
