"""Drills of a whole release service: real Envoy, servers, controller and client, killed and lied to."""

import pytest

from benchmarks import release_kills
from benchmarks.release import faults, killing
from benchmarks.release.killing import GOOD, Case
from benchmarks.release_faults import one
from ci_tools.release.plan import LEASE_SECONDS

KILLS = (
    Case(number=0, victim="controller", behind="deciding", wait=0.0, candidate=GOOD),
    Case(number=1, victim="supervisor", behind="ramping", wait=0.5, candidate=GOOD),
    Case(number=2, victim="controller, kept down", behind="ramping", wait=0.8, candidate=GOOD),
    Case(number=3, victim="envoy", behind="submitted", wait=1.0, candidate="errors:0.3"),
    Case(number=4, victim="client", behind="submitted", wait=0.5, candidate="fails:250"),
    Case(number=5, victim="stable", behind="promoting", wait=0.05, candidate=GOOD),
)
USUAL = [name for name, drill in faults.DRILLS.items() if drill.scene is faults.USUAL and not drill.slow]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with release_kills.staged(tmp_path_factory.mktemp("kills")) as stage:
        yield stage


@pytest.mark.parametrize("case", KILLS, ids=lambda case: f"{case.victim} behind {case.behind}")
def test_service_survives_a_kill(stage, case):
    seen = killing.play(stage, case)
    assert seen.problem == "", seen.line
    assert seen.victim == case.victim
    if case.victim == "controller, kept down":
        assert 0 < seen.exposure <= LEASE_SECONDS + killing.GRACE_SECONDS


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with faults.USUAL.opened(tmp_path_factory.mktemp("faults")) as service:
        yield service


@pytest.mark.parametrize("name", USUAL)
def test_fault_ends_as_it_must(service, name):
    told = one(faults.DRILLS[name], service)
    assert told["problem"] == "", told


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in faults.DRILLS if name not in USUAL])
def test_slow_fault_ends_as_it_must(tmp_path, name):
    drill = faults.DRILLS[name]
    try:
        with drill.scene.opened(tmp_path) as service:
            told = one(drill, service)
    except faults.Impossible as error:
        pytest.skip(str(error))
    assert told["problem"] == "", told
