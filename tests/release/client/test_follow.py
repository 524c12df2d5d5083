"""A release followed through scenes, outages and restarts."""

import time

import pytest

from ci_tools.errors import ConfigError, DependencyUnavailable
from ci_tools.release.client import follow as followed
from ci_tools.release.client.connection import Address, Connection
from ci_tools.release.client.follow import Teller, follow, proven, submit
from ci_tools.release.control import Phase, Result, Status
from ci_tools.release.home import Home
from ci_tools.release.plan import Health, Member, Role
from tests.release.api import scenes
from tests.release.api.scenes import CANARY, CHAMPION, Staged
from tests.release.api.serving import serving
from tests.release.client.played import Played, inconclusive, weight


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def run(control, home, **more):
    lines = []
    with serving(control, path=home.socket), Connection(Address(home)) as connection:
        release = submit(connection, CANARY, "Ada", 5.0, lines.append)
        return follow(connection, release, patience=5.0, tell=lines.append, every=0.001, **more), lines


def test_each_change_of_phase_and_weight_is_one_line(home):
    script = [scenes.mirroring(), scenes.mirroring(), weight(0.01), weight(0.01), weight(0.02), weight(0.02)]
    status, lines = run(Played(*script, scenes.held(), weight(0.02), scenes.watching()), home)
    told = [line.partition("] ")[2] for line in lines]
    assert [line.split(":")[0] for line in told] == [
        "Mirroring",
        "Ramping",
        "The canary answers 2 % of the traffic.",
        "Held",
        "Ramping",
        "Promoted, and watched",
    ]
    assert status.release.phase is Phase.WATCHING


@pytest.mark.parametrize("scene", [scenes.rolled_back, inconclusive, scenes.watching])
def test_following_ends_with_the_verdict(home, scene):
    status, _ = run(Played(scenes.mirroring(), scenes.ramping(), scene()), home)
    assert status.release.result == scene().release.result


def test_release_that_ended_before_anybody_looked_is_told_at_once(home):
    status, lines = run(Played(scenes.rolled_back()), home)
    assert status.release.result is Result.ROLLED_BACK
    assert len(lines) == 1


def first(health, reason=""):
    """The first bundle of all is champion; so far is its server."""
    member = Member(name="m1", role=Role.STABLE, bundle=CANARY, health=health, port=9001, pid=101, reason=reason)
    installed = scenes.release(Phase.IDLE, Result.PROMOTED, "The first bundle of all.")
    return Status(
        champion=CANARY,
        previous="",
        release=installed.model_copy(update={"champion": ""}),
        actual=scenes.actual().model_copy(update={"members": (member,)}),
    )


def test_first_bundle_is_followed_until_its_server_answers(home):
    control = Played(first(Health.STARTING), first(Health.STARTING), first(Health.READY))
    status, lines = run(control, home)
    assert status.actual.ready(Role.STABLE, CANARY)
    assert len([line for line in lines if "Promoted" in line]) == 1


def test_first_bundle_whose_server_fails_is_told_with_the_reason(home):
    with pytest.raises(DependencyUnavailable, match=r"answers nobody: its server failed: exit code 3\. Fix: look at"):
        run(Played(first(Health.STARTING), first(Health.FAILED, "exit code 3")), home)


def test_first_bundle_may_take_longer_to_start_than_a_service_to_answer(home):
    looks = [first(Health.STARTING)] * 3
    with serving(Played(*looks, first(Health.READY)), path=home.socket), Connection(Address(home)) as connection:
        release = submit(connection, CANARY, "Ada", 60.0, lambda line: None)
        assert follow(connection, release, patience=0.0, tell=lambda line: None, every=0.001).actual.ready(
            Role.STABLE, CANARY
        )


def test_first_bundle_that_never_answers_is_given_up(home, monkeypatch):
    monkeypatch.setattr(followed, "START", 0.0)
    with pytest.raises(DependencyUnavailable, match="answers nobody: its server is not ready after 0 s"):
        run(Played(first(Health.STARTING)), home)


def test_first_bundle_is_waited_for_no_longer_than_it_is_champion(home, monkeypatch):
    monkeypatch.setattr(followed, "START", 60.0)
    status, _ = run(Played(first(Health.STARTING), first(Health.STARTING), scenes.idle()), home)
    assert status.champion == CHAMPION


def test_something_is_said_now_and_then_where_nothing_changes(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(followed.time, "monotonic", lambda: now[0])
    teller = Teller(lines.append)
    for second in range(60):
        now[0] = float(second)
        teller.take(scenes.ramping())
    assert len(lines) == 6
    assert lines[1].startswith("[3 min 0 s] Not yet proven")
    assert "% of the evidence that promotion needs." in lines[1]


def test_bar_shows_the_evidence_of_the_metric_that_lacks_most():
    class Bar:
        steps = ()

        def update(self, step, text=""):
            self.steps += ((step, text),)

    bar, status = Bar(), scenes.ramping()
    Teller(lambda line: None, bar).take(status)
    needed = [one for one in status.decision.verdicts if one.needed]
    least = min(one.log10_safe / one.log10_safe_needed for one in needed)
    assert bar.steps == ((round(100 * min(max(least, 0), 1)), "ramping, canary 16 %"),)
    assert proven(scenes.mirroring()) == 0.0


class Restarting(Connection):
    """Fails at some looks, as a service that starts again does."""

    def __init__(self, address, failures):
        super().__init__(address)
        self.failures, self.looks, self.submissions = set(failures), 0, 0
        self.lose_answer = False

    def status(self):
        self.looks += 1
        if self.looks in self.failures:
            raise DependencyUnavailable("the release service does not answer (refused)")
        return super().status()

    def submit(self, bundle, actor, again=False):
        self.submissions += 1
        release = super().submit(bundle, actor, again)
        if self.lose_answer:
            self.lose_answer = False
            raise DependencyUnavailable("the release service does not answer (reset)")
        return release


def test_restart_of_the_service_is_waited_for_and_told_once(home):
    control, lines = Played(scenes.mirroring(), scenes.ramping(), scenes.ramping(), scenes.watching()), []
    with serving(control, path=home.socket), Restarting(Address(home), {3, 4, 5}) as connection:
        release = submit(connection, CANARY, "Ada", 60.0, lines.append)
        status = follow(connection, release, patience=60.0, tell=lines.append, every=0.001)
    assert status.release.phase is Phase.WATCHING
    assert sum("waiting up to 60 s" in line for line in lines) == 1
    assert lines.count("the release service answers again") == 1


def test_service_that_stays_away_is_given_up(home):
    with Connection(Address(home)) as connection:
        start = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            submit(connection, CANARY, "Ada", 0.3, lambda line: None)
        with pytest.raises(DependencyUnavailable):
            follow(connection, scenes.release(Phase.RAMPING), patience=0.3, tell=lambda line: None)
        assert time.monotonic() - start >= 0.6


def test_answer_that_was_lost_does_not_begin_a_second_release(home):
    control = Staged(scenes.idle())
    with serving(control, path=home.socket), Restarting(Address(home), ()) as connection:
        connection.lose_answer = True
        release = submit(connection, CANARY, "Ada", 30.0, lambda line: None)
    assert (release.id, connection.submissions, control.orders) == ("r2", 1, [("submit", "Ada")])


def test_request_that_was_lost_is_sent_again(home):
    control = Staged(scenes.idle())
    with serving(control, path=home.socket), Restarting(Address(home), {1, 2}) as connection:
        release = submit(connection, CANARY, "Ada", 30.0, lambda line: None)
    assert (release.id, connection.submissions) == ("r2", 1)


class TestOvertaken:
    """Another release began before this one's end was seen."""

    def ended(self, home, *events):
        other = scenes.release(Phase.RAMPING).model_copy(update={"id": "r9", "bundle": CHAMPION})
        control = Staged(scenes.ramping().model_copy(update={"release": other}), scenes.events(*events))
        with serving(control, path=home.socket), Connection(Address(home)) as connection:
            mine = scenes.release(Phase.RAMPING)
            return follow(connection, mine, patience=5.0, tell=lambda line: None, every=0.001).release

    def test_ledger_says_how_it_ended(self, home):
        body = {"result": "rolled back", "reason": "events.errors: worse.", "seconds": 12.5}
        release = self.ended(home, ("submitted", {}), ("rolled back", body))
        assert (release.id, release.result, release.reason) == ("r2", Result.ROLLED_BACK, "events.errors: worse.")
        assert release.seconds == 12.5

    def test_promotion_that_was_taken_back_later_is_a_rollback(self, home):
        back = ("rolled back", {"result": "rolled back", "reason": "labels: worse."})
        assert self.ended(home, ("watching", {})).result is Result.PROMOTED
        assert self.ended(home, ("watching", {}), back, ("started", {})).result is Result.ROLLED_BACK

    def test_release_that_the_ledger_does_not_know_is_an_error(self, home):
        with pytest.raises(ConfigError, match="knows release r2 no more"):
            self.ended(home, ("submitted", {}))
