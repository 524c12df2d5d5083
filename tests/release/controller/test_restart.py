"""A controller may die at any instant: whatever was written, the next one ends the release as this one would have."""

import contextlib

import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.release.control import Phase, Result
from ci_tools.release.controller import controller as controller_module
from ci_tools.release.controller import judged as judged_module
from ci_tools.release.controller.pairs import Pairs
from ci_tools.release.home import Home
from ci_tools.release.ledger import Ledger
from ci_tools.release.plan import Plan, Role
from tests.release.controller.fleet import SETTINGS, Fleet, Truth, installed, kinds, play


class Killed(BaseException):
    """SIGKILL, as far as files are concerned."""


class Writes:
    """Every write of the controller, each of which may be its last deed: before it, or right behind it."""

    def __init__(self, monkeypatch):
        self.seen, self.lethal = [], lambda name, moment: False
        self._wrap(monkeypatch, Ledger, "append", lambda ledger, kind, *_: f"event {kind}")
        self._wrap(monkeypatch, Pairs, "commit", lambda pairs: "pairs")
        for module in (controller_module, judged_module):
            self._wrap(monkeypatch, module, "write_atomic", lambda path, *_, **__: path.name)

    def _wrap(self, monkeypatch, owner, name, naming):
        real = getattr(owner, name)

        def write(*values, **named):
            what = naming(*values, **named)
            self._pass(what, "before")
            result = real(*values, **named)
            self._pass(what, "after")
            return result

        monkeypatch.setattr(owner, name, write)

    def _pass(self, name, moment):
        self.seen.append((name, moment))
        if self.lethal(name, moment):
            raise Killed


@pytest.fixture
def fleet(tmp_path):
    return Fleet(Home(tmp_path))


@pytest.fixture
def writes(monkeypatch):
    return Writes(monkeypatch)


def again(fleet, dead):
    """The next controller."""
    dead.close()
    return fleet.controller()


def survive(fleet, controller, until, seconds=120.0):
    """Let all run; a killed controller is followed by another. Returns the last one, its status, and the deaths."""
    deaths, end = 0, fleet.clock.at + seconds
    while fleet.clock.at < end:
        fleet.step()
        try:
            controller.tick()
        except Killed:
            deaths += 1
            controller.close()
            while True:
                with contextlib.suppress(Killed):
                    controller = fleet.controller()
                    break
                deaths += 1
        if until(controller.status()):
            return controller, controller.status(), deaths
    raise AssertionError(controller.status())


def over(status):
    return status.release.phase is Phase.IDLE and status.release.result is not None


@pytest.mark.parametrize(("truth", "result"), [(Truth(errors=0.01), Result.PROMOTED), (Truth(errors=0.6),
                                                                                      Result.ROLLED_BACK)])  # fmt: skip
def test_death_at_every_kind_of_write_of_every_state_changes_no_end(fleet, writes, truth, result):
    controller, second = installed(fleet)
    fleet.truth = truth
    controller.submit(second, "ann")
    died = set()

    def once(name, moment):
        """Each write is lethal once in each state, before it and behind it."""
        if name == "event started":
            return False
        with Ledger(fleet.home.ledger, readonly=True) as ledger:
            state = next(event.kind for event in reversed(ledger.events()) if event.kind != "started")
        fresh = (name, moment, state) not in died
        died.add((name, moment, state))
        return fresh

    writes.lethal = once
    controller, status, deaths = survive(fleet, controller, over)
    writes.lethal = lambda name, moment: False
    assert status.release.result is result
    assert deaths == len(died) > 20
    assert status.champion == (second if result is Result.PROMOTED else status.release.champion)
    assert Plan.model_validate_json(fleet.home.plan.read_bytes()).pools[Role.STABLE] == status.champion
    found = [kind for kind in kinds(controller) if kind not in ("started", "weight", "held", "went on")]
    ends = (
        ["deciding", "promoting", "watching", "watched"] if result is Result.PROMOTED else ["deciding", "rolled back"]
    )
    assert found == ["installed", "submitted", "ramping", *ends]
    with Ledger(fleet.home.ledger, readonly=True) as ledger:
        ledger.verify()


@pytest.mark.parametrize("every", [1, 3, 7])
def test_no_request_and_no_pair_is_lost_or_counted_twice(fleet, every):
    fleet.policy.write_text(fleet.policy.read_text().replace("min_seconds: 5.0", "min_seconds: 40.0"))
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    for tick in range(40):
        fleet.step()
        controller.tick()
        if tick % every == 0:
            controller = again(fleet, controller)
    fleet.rate = 0.0
    for _ in range(4):
        fleet.step()
        controller.tick()
    state = controller._work.state
    assert fleet.served[Role.CANARY] > 100
    assert (state.total.canary, state.total.baseline) == (fleet.served[Role.CANARY], fleet.served[Role.BASELINE])
    assert state.flips.pairs == fleet.paired > 100
    assert not state.doubted


def test_each_label_counts_once_whenever_a_controller_dies(fleet, writes):
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    play(fleet, controller, lambda status: status.release.phase is Phase.RAMPING)
    ids = [row[0] for row in controller._pairs._db.execute("SELECT id FROM pairs LIMIT 20")]
    for number, id_ in enumerate(ids):
        controller.label({id_: 1.0})
        writes.lethal = lambda name, moment, at=number: name == "judged.json" and (at % 3 == 0) == (moment == "before")
        fleet.step()
        with contextlib.suppress(Killed):
            controller.tick()
        writes.lethal = lambda name, moment: False
        controller = again(fleet, controller)
        fleet.step()
        controller.tick()
    for _ in range(4):
        fleet.step()
        controller.tick()
    assert controller._work.state.labels.differences.n == len(ids)


def test_after_a_restart_the_plan_is_written_from_the_ledger(fleet):
    controller, second = installed(fleet)
    controller.submit(second, "ann")
    plan = fleet.home.plan.read_bytes()
    fleet.home.plan.write_text("{}")
    again(fleet, controller)
    assert fleet.home.plan.read_bytes() == plan


@pytest.mark.parametrize("damage", ["", "{", "\x00" * 100])
def test_a_lost_state_is_counted_anew_from_the_logs(fleet, damage):
    fleet.policy.write_text(fleet.policy.read_text().replace("min_seconds: 5.0", "min_seconds: 40.0"))
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    for _ in range(40):
        fleet.step()
        controller.tick()
    controller.close()
    fleet.home.judged.write_text(damage)
    controller, fleet.rate = fleet.controller(), 0.0
    for _ in range(4):
        fleet.step()
        controller.tick()
    assert controller._work.state.total.canary == fleet.served[Role.CANARY] > 50


def test_a_reboot_stops_the_clock_of_a_release_and_no_more(fleet):
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    play(fleet, controller, lambda status: status.release.phase is Phase.RAMPING)
    seconds = controller.status().release.seconds
    controller.close()
    fleet.clock.at, fleet.clock.boot = 5.0, "boot-2"
    controller = fleet.controller()
    assert controller.status().release.seconds == pytest.approx(seconds, abs=SETTINGS.save_seconds)
    assert play(fleet, controller, lambda status: status.release.result is not None).champion == second


def test_a_release_whose_bundle_is_gone_returns_to_its_champion(fleet):
    controller, second = installed(fleet)
    controller.submit(second, "ann")
    controller.close()
    (fleet.home.bundles / second / "manifest.json").unlink()
    status = fleet.controller().status()
    assert status.release.result is Result.ROLLED_BACK
    assert status.release.reason.startswith("It cannot be judged any more: ")
    assert status.champion == status.release.champion


def test_the_policy_of_a_release_is_that_of_its_beginning(fleet):
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    fleet.policy.write_text("false_rollback: 0.4\n")
    controller = again(fleet, controller)
    assert play(fleet, controller, lambda status: status.release.result is not None).champion == second


@pytest.mark.parametrize("refused", ["event weight", "plan.json", "judged.json", "pairs", "lease.json"])
def test_a_full_disk_is_told_lends_no_weight_and_is_survived(fleet, writes, refused):
    controller, second = installed(fleet)
    fleet.truth = Truth(errors=0.01)
    controller.submit(second, "ann")
    play(fleet, controller, lambda status: status.release.phase is Phase.RAMPING)

    def full(name, moment):
        if name == refused and moment == "before":
            raise SwitchbackError("No space left on device", where=name)
        return False

    writes.lethal = full
    failures, end = 0, fleet.clock.at + 6
    while fleet.clock.at < end:
        fleet.step()
        try:
            controller.tick()
        except SwitchbackError:
            failures += 1
            assert any("No space left on device" in one for one in controller.status().warnings)
    assert failures > 0
    writes.lethal = lambda name, moment: False
    status = play(fleet, controller, lambda status: status.release.result is not None)
    assert status.champion == second
    assert not status.warnings
