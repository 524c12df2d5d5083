"""The supervisor with the real Envoy: promotion, rollback, faults of every child, and its own end."""

import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from ci_tools.release.home import Home
from ci_tools.release.plan import Health, Role, boot_time
from tests.release.server.running import wait_for
from tests.release.traffic.client import Load
from tests.release.traffic.service import ALL, ALONE, GOOD, NEW, OTHER, PROGRAM, PROMOTED, ROOT, free_port, running

IMPATIENT = {"failures": 3, "backoff_seconds": 0.02, "probes": 2, "probe_seconds": 0.25}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Shared by the tests that leave it as they found it: GOOD is champion, nothing else runs."""
    with running(tmp_path_factory.mktemp("service"), **IMPATIENT) as made:
        yield made


@pytest.fixture
def ramping(service):
    service.serve(ALL, canary_weight=0.25, baseline_weight=0.25)
    yield service
    service.leading = True
    service.serve(ALONE)
    service.until(lambda actual: [m.role for m in actual.members] == [Role.STABLE], "alone again")


def pids(actual):
    return {member.role: member.pid for member in actual.members}


def test_promotion_loses_no_request_and_restarts_nothing(ramping):
    before = pids(ramping.actual)
    with Load(ramping.port) as load:
        ramping.serve(PROMOTED)
        ramping.until(lambda actual: len(actual.members) == 2, "baseline has ended")
        after = pids(ramping.actual)
        ramping.serve(ALONE)
        ramping.until(lambda actual: len(actual.members) == 1, "promoted one has ended")
    assert after == {Role.STABLE: before[Role.CANARY], Role.PREVIOUS: before[Role.STABLE]}
    assert pids(ramping.actual) == {Role.STABLE: before[Role.STABLE]}
    assert load.failed == []
    entries = ramping.entries([answer.headers["x-request-id"] for answer in load.answers])
    assert {entry.event for entry in entries} == {None}


def test_canary_that_is_killed_again_and_again_costs_no_request(ramping):
    with Load(ramping.port) as load:
        for number in range(2):
            member = ramping.member(Role.CANARY)
            psutil.Process(member.pid).kill()
            back = lambda actual, n=number: any(  # noqa: E731
                m.role == Role.CANARY and m.health is Health.READY and m.restarts == n + 1 for m in actual.members
            )
            ramping.until(back, "canary is back")
    assert load.failed == []
    assert ramping.member(Role.CANARY).reason == "killed by SIGKILL"
    assert ramping.actual.leased


def test_canary_that_keeps_dying_is_given_up_and_its_traffic_returns(ramping):
    with Load(ramping.port) as load:
        ramping.bundle(NEW, start="crash")
        psutil.Process(ramping.member(Role.CANARY).pid).kill()
        given_up = ramping.until(lambda actual: not actual.leased, "weights are taken back")
        served_by = {answer.member for answer in [ramping.ask() for _ in range(20)]}
    ramping.bundle(NEW)
    (member,) = [m for m in given_up.members if m.role == Role.CANARY]
    assert (member.health, member.pid) == (Health.FAILED, 0)
    assert member.reason == "exit code 1: it does not feel like it"
    assert served_by == {ramping.member(Role.STABLE).name}
    assert load.failed == []


def test_canary_that_hangs_is_started_again_and_says_why(ramping):
    member = ramping.member(Role.CANARY)
    ramping.tell(member, ready="hang")
    ramping.until(lambda actual: pids(actual).get(Role.CANARY) not in (0, member.pid), "another process")
    ramping.until(lambda actual: actual.ready(Role.CANARY, NEW), "ready again")
    assert "health checks" in ramping.member(Role.CANARY).reason


def test_stable_that_dies_is_replaced_by_its_bundle_elsewhere(ramping):
    member = ramping.member(Role.STABLE)
    with Load(ramping.port) as load:
        psutil.Process(member.pid).kill()
        ramping.until(lambda actual: pids(actual).get(Role.STABLE) not in (0, member.pid), "another process")
        ramping.until(lambda actual: actual.ready(Role.STABLE, GOOD), "ready again")
    assert load.failed == []


def test_refused_bundle_is_not_tried_again(service):
    service.bundle(OTHER, start="refuse")
    service.serve(ALONE)
    service.want({**ALONE, Role.CANARY: OTHER})
    failed = service.until(lambda a: any(m.health is Health.FAILED for m in a.members), "given up")
    (member,) = [m for m in failed.members if m.role == Role.CANARY]
    assert (member.restarts, member.reason) == (1, "exit code 2: error: bundle was changed")
    service.serve(ALONE)
    service.until(lambda actual: len(actual.members) == 1, "forgotten")
    service.bundle(OTHER)


def test_champion_is_never_given_up(service):
    service.serve(ALONE)
    service.bundle(OTHER, start="crash")
    service.want({Role.STABLE: OTHER})
    busy = service.until(lambda a: any(m.restarts > IMPATIENT["failures"] for m in a.members), "tried on")
    assert not [m for m in busy.members if m.health is Health.FAILED]
    assert service.ask().body["bundle"] == GOOD, "the champion before serves meanwhile"
    service.bundle(OTHER)
    service.until(lambda actual: actual.ready(Role.STABLE, OTHER), "ready at last")
    service.serve(ALONE)


def test_lease_that_ends_returns_all_traffic(ramping):
    with Load(ramping.port) as load:
        ramping.leading = False
        ramping.renew(1.0)
        ends = boot_time() + 1.0
        ramping.until(lambda actual: not actual.leased, "safe")
        time.sleep(0.5)
    stable = ramping.member(Role.STABLE).name
    exposed = [answer.began for answer in load.answers if answer.member != stable]
    assert min(exposed) < ends
    assert max(exposed) - ends < 0.5
    entries = ramping.entries([answer.headers["x-request-id"] for answer in load.answers])
    assert {entry.arm for entry in entries if not entry.leased} == {Role.STABLE}
    assert load.failed == []


def test_lease_ends_though_somebody_removed_envoys_files(ramping):
    shutil.rmtree(ramping.home.envoy)
    ramping.leading = False
    ramping.until(lambda actual: not actual.leased, "safe")
    stable = ramping.member(Role.STABLE).name
    ramping.until(lambda _: {one.member for one in ramping.ask(times=20)} == {stable}, "Envoy has heard of it")


def test_rollback_takes_effect_within_a_moment(ramping):
    """Over many changes: from the plan's rename to the beginning of the last request that the canary answered."""
    canary, exposed = ramping.member(Role.CANARY).name, []
    for _ in range(5):
        ramping.serve(ALL, canary_weight=0.5)
        with Load(ramping.port, rate=200) as load:
            ramping.until(lambda _, load=load: any(a.member == canary for a in list(load.answers)), "canary answers")
            plan = ramping.want(ALL)
            at = boot_time()
            ramping.until(lambda actual, plan=plan: actual.serial == plan.serial, "taken back")
            time.sleep(0.1)
        assert load.failed == []
        exposed.append(max(answer.began for answer in load.answers if answer.member == canary) - at)
    assert sorted(exposed)[len(exposed) // 2] < 0.5, exposed


def test_hearts_beats_and_addresses_are_told(ramping):
    first = ramping.actual
    later = ramping.until(lambda actual: actual.heartbeat > first.heartbeat, "heartbeat", seconds=5)
    assert 0 < later.heartbeat - first.heartbeat < 5
    assert first.since <= first.heartbeat <= boot_time()
    assert later.port == ramping.port
    assert psutil.Process(later.envoy_pid).name() == "envoy"


def test_full_disk_ends_neither_the_service_nor_the_lease(ramping):
    supervisor = psutil.Process(ramping.process.pid)
    with Load(ramping.port) as load:
        # No file of the supervisor may grow any more: what it writes fails, as on a full disk.
        supervisor.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
        try:
            ramping.leading = False
            ramping.renew(0.5)
            time.sleep(2)
            stable = ramping.member(Role.STABLE).name
            assert {ramping.ask().member for _ in range(30)} == {stable}
            assert boot_time() - ramping.actual.heartbeat > 1, "it could write"
        finally:
            supervisor.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        ramping.leading = True
        ramping.until(lambda actual: actual.leased and boot_time() - actual.heartbeat < 1, "in order again")
    assert load.failed == []


def test_envoy_that_missed_a_change_is_started_anew(ramping):
    before = ramping.actual
    routes, draft = ramping.home.envoy / "routes.json", ramping.home.envoy / "stale"
    right = routes.read_text()
    draft.write_text(right.replace(f'"version_info": "{before.serial}"', '"version_info": "0"'))
    draft.replace(routes)
    ramping.until(lambda actual: actual.envoy_pid not in (0, before.envoy_pid), "another Envoy")
    assert routes.read_text() == right


@pytest.fixture
def own(tmp_path):
    with running(tmp_path, **IMPATIENT) as made:
        yield made


def test_nothing_is_served_before_the_first_plan_and_the_reason_is_told(own):
    answer = own.ask()
    assert answer.status == 503
    assert answer.body == {"error": "no model is being served yet"}
    own.serve(ALONE)
    wait_for(lambda: own.ask().status == 200)  # Envoy's workers take a plan one by one


def test_killed_supervisor_leaves_no_process_and_the_next_one_goes_on(own):
    own.serve(ALL)
    family, names = own.processes(), {member.name for member in own.actual.members}
    assert len(family) == 4
    own.process.kill()
    own.process.communicate()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    own.start()
    own.until(lambda actual: len(actual.members) == 3 and names.isdisjoint(m.name for m in actual.members), "others")
    own.until(lambda actual: all(actual.ready(role, bundle) for role, bundle in ALL.items()), "servers ready")
    assert own.ask().status == 200


def test_sigterm_lets_requests_in_flight_end(own):
    own.serve(ALONE)
    own.tell(own.member(Role.STABLE), seconds=1.0)
    family = own.processes()
    with Load(own.port, rate=20, connections=1) as load:
        own.until(lambda _: asked(own) > 0, "a request is in flight")
        said = own.stop()
    assert load.answers[0].status == 200
    assert own.process.returncode == 0, said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def asked(service):
    path = service.home.predictions(service.member(Role.STABLE).name)
    return len(path.read_text().splitlines())


def refused(home, port, settings="{}"):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home.path), str(port), settings], cwd=ROOT, capture_output=True, timeout=60
    )
    return done.returncode, done.stderr.decode()


def test_second_supervisor_of_a_home_is_refused(service):
    code, said = refused(service.home, free_port())
    assert code == 2
    assert f"already runs here, as process {service.process.pid}" in said
    assert "Traceback" not in said


def test_taken_port_is_refused(tmp_path, service):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], service.port):
            (tmp_path / str(port)).mkdir()
            code, said = refused(type(service.home)(tmp_path / str(port)), port)
            assert code == 2
            assert f"port {port} on 127.0.0.1 is taken" in said


def test_address_of_another_machine_is_refused(tmp_path):
    code, said = refused(Home(tmp_path), free_port(), '{"address": "192.0.2.1"}')
    assert code == 2
    assert "on 192.0.2.1 cannot be had (Cannot assign requested address)" in said


def test_hangup_is_ignored_under_nohup(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running(tmp_path) as service:
            service.process.send_signal(signal.SIGHUP)
            service.serve(ALONE)
            assert service.ask().status == 200
    finally:
        signal.signal(signal.SIGHUP, before)


def test_controller_is_started_again_and_its_death_changes_no_traffic(tmp_path):
    told = tmp_path / "pid"
    script = f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(600)"
    with running(tmp_path / "home", controller_command=(sys.executable, "-S", "-c", script), **IMPATIENT) as service:
        service.serve(ALL, canary_weight=0.5)
        service.until(lambda _: told.exists() and told.read_text().endswith(" "), "controller")
        first = told.read_text()
        with Load(service.port) as load:
            psutil.Process(int(first)).kill()
            service.until(lambda _: told.read_text() not in ("", first), "another controller")
        assert load.failed == []
        assert service.actual.leased


def test_server_that_eats_memory_is_ended_before_the_machine_is(tmp_path):
    with running(tmp_path, server_megabytes=1, **IMPATIENT) as service:
        service.want({**ALONE, Role.CANARY: NEW})
        failed = service.until(lambda a: any(m.health is Health.FAILED for m in a.members), "given up")
        (member,) = [m for m in failed.members if m.health is Health.FAILED]
        assert member.role is Role.CANARY
        assert "MB of memory, 1 are allowed" in member.reason


def test_second_signal_ends_a_drain_at_once(own):
    own.serve(ALONE)
    own.tell(own.member(Role.STABLE), answer="hang")
    with Load(own.port, rate=10, connections=1):
        own.until(lambda _: asked(own) > 0, "a request hangs")
        family = own.processes()
        own.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        own.process.send_signal(signal.SIGTERM)
        own.process.wait(timeout=6)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
