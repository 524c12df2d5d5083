"""The real Envoy under the configuration: who answers, what is retried where, what is refused, what the log says."""

import json
import math
import signal
import time
from collections import Counter
from itertools import pairwise

import psutil
import pytest

from ci_tools.release.plan import Role
from ci_tools.release.traffic.limits import Limits
from tests.release.traffic.client import Load, send
from tests.release.traffic.service import ALL, ALONE, running

LIMITS = Limits(deadline_seconds=1.0, max_request_bytes=1 << 20)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(tmp_path_factory.mktemp("service"), limits=LIMITS, probes=1000) as made:
        made.serve(ALL)
        yield made


@pytest.fixture
def canary(service):
    """All traffic is the canary's, which behaves again in the end."""
    service.serve(ALL, canary_weight=1.0)
    member = service.member(Role.CANARY)
    yield member
    service.tell(member)


def mirrored(service):
    text = service.home.predictions(service.member(Role.CANARY).name).read_text()
    whole = text[: text.rfind("\n") + 1]
    return [one for one in map(json.loads, whole.splitlines()) if one["mirror"]]


def copies_are(service, before, ids):
    """Each id was copied once. Copies are sent beside the requests, so the last of them may come later."""
    service.until(lambda _: len(mirrored(service)) >= before + len(ids), "the copies arrive")
    assert Counter(one["id"] for one in mirrored(service)[before:]) == Counter(ids)


def close(count, of, share):
    """Within 5 standard deviations of a binomial."""
    return abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share)) + 1


def test_weights_divide_inference(service):
    plan = service.serve(ALL, canary_weight=0.2, baseline_weight=0.3)
    answers = service.ask(times=1500, at_once=8)
    counts = Counter(answer.member for answer in answers)
    for role, share in ((Role.CANARY, 0.2), (Role.BASELINE, 0.3), (Role.STABLE, 0.5)):
        assert close(counts[service.member(role).name], 1500, share), (role, counts)
    entries = service.entries([answer.headers["x-request-id"] for answer in answers])
    names = {service.member(role).name: role for role in (Role.STABLE, Role.BASELINE, Role.CANARY)}
    for answer, entry in zip(answers, entries, strict=True):
        assert (entry.serial, entry.leased, entry.event) == (plan.serial, True, None)
        assert entry.arm is names[answer.member]
        assert 0 < entry.ms < 1000 * (answer.ended - answer.began) + 1


def test_mirroring_copies_a_share_of_each_pool_but_the_canarys_own(service):
    service.serve(ALL, canary_weight=0.2, baseline_weight=0.2, mirror_share=0.2)
    answers = service.ask(times=3000, at_once=8)
    copied = {one["id"] for one in mirrored(service)}
    for role, share in ((Role.CANARY, 0.0), (Role.BASELINE, 0.2), (Role.STABLE, 0.2)):
        mine = [a.headers["x-request-id"] for a in answers if a.member == service.member(role).name]
        assert close(len(copied.intersection(mine)), len(mine), share), role


def test_all_of_stable_is_mirrored_before_the_canary_answers_anyone(service):
    service.serve(ALL, mirror_share=1.0)
    before = len(mirrored(service))
    answers = service.ask(times=50)
    assert {answer.member for answer in answers} == {service.member(Role.STABLE).name}
    copies_are(service, before, [answer.headers["x-request-id"] for answer in answers])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_client_cannot_pass_its_request_off_as_a_copy(service, share):
    """Servers know a copy by what Envoy puts behind the host's name."""
    service.serve(ALL, canary_weight=0.5, mirror_share=share)
    before = len(mirrored(service))
    answers = service.ask(times=40, headers={"Host": "service-shadow"})
    assert {answer.body["mirror"] for answer in answers} == {False}
    if share:
        stables = [a.headers["x-request-id"] for a in answers if a.member == service.member(Role.STABLE).name]
        copies_are(service, before, stables)


def test_mirror_that_hangs_or_fails_harms_nobody(service):
    service.serve(ALL, mirror_share=1.0)
    member = service.member(Role.CANARY)
    try:
        for answer in ("hang", "reset", "error"):
            service.tell(member, answer=answer)
            answers = service.ask(times=40, at_once=4)
            assert {one.status for one in answers} == {200}
            assert {e.event for e in service.entries([a.headers["x-request-id"] for a in answers])} == {None}
    finally:
        service.tell(member)


@pytest.mark.parametrize("answer", ["reset", "crash"])
def test_canary_that_gives_no_answer_costs_the_client_nothing_and_is_counted(service, canary, answer):
    service.tell(canary, answer=answer)
    answers = service.ask(times=30)
    assert {one.status for one in answers} == {200}
    assert {one.member for one in answers} == {service.member(Role.STABLE).name}
    entries = service.entries([one.headers["x-request-id"] for one in answers])
    assert {(entry.arm, entry.event) for entry in entries} == {(Role.CANARY, "errors")}
    restarted = lambda actual: any(m.role == Role.CANARY and m.health == "ready" for m in actual.members)  # noqa: E731
    service.until(restarted, "canary is back")


def test_response_that_has_begun_is_not_retried(service, canary):
    before = {role: asked(service, role) for role in (Role.STABLE, Role.CANARY)}
    service.tell(canary, answer="partial")
    answer = service.ask()
    assert answer.status in (0, 502, 503)
    assert asked(service, Role.STABLE) == before[Role.STABLE]
    assert asked(service, Role.CANARY) == before[Role.CANARY] + 1


def asked(service, role):
    """Requests that a server has got."""
    return len(service.home.predictions(service.member(role).name).read_text().splitlines())


@pytest.mark.parametrize(("answer", "status", "event"), [("error", 500, "errors"), ("invalid", 200, "invalid_outputs")])
def test_wrong_answers_reach_the_client_and_are_counted(service, canary, answer, status, event):
    service.tell(canary, answer=answer)
    got = service.ask()
    assert (got.status, got.member) == (status, canary.name)
    (entry,) = service.entries([got.headers["x-request-id"]])
    assert (entry.arm, entry.event) == (Role.CANARY, event)


def test_deadline_ends_a_request_that_hangs(service, canary):
    service.tell(canary, answer="hang")
    got = service.ask()
    assert got.status == 504
    assert 0.9 < (got.ended - got.began) / LIMITS.deadline_seconds < 5
    assert got.body["error"]
    (entry,) = service.entries([got.headers["x-request-id"]])
    assert (entry.arm, entry.event) == (Role.CANARY, "timeouts")
    assert entry.ms > 900 * LIMITS.deadline_seconds


def test_client_may_choose_neither_id_nor_arm_nor_deadline_nor_retries(service):
    plan = service.serve(ALL, mirror_share=1.0)
    forged = {
        "x-request-id": "mine",
        "x-switchback-arm": "canary",
        "x-switchback-mirror": "stable",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "9",
    }
    answers = service.ask(times=5, headers=forged)
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len({*ids, "mine"}) == 6
    for answer, one in zip(answers, ids, strict=True):
        assert answer.status == 200
        assert answer.body["id"] == one
        assert answer.body["headers"]["x-switchback-arm"] == "stable"
        assert answer.body["headers"].keys().isdisjoint(list(forged)[-2:])
    assert {(entry.serial, entry.arm) for entry in service.entries(ids)} == {(plan.serial, Role.STABLE)}
    assert {one["id"] for one in mirrored(service)} >= set(ids)


def test_rest_of_the_protocol_is_stables_and_no_evidence(service, canary):
    for path in ("/v2", "/v2/health/live", "/v2/models/model", "/v2/models/model/ready", "/v2/models/model/infer"):
        answer = service.ask(path=path, method="GET", body=b"")
        assert answer.status == 200
        assert answer.member == service.member(Role.STABLE).name


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/model/versions/3/infer",
        "/v2/models/shop/risk/infer",
        "/v2/models/shop%2Frisk/infer",
        "/v2/models/shop/risk/versions/3/infer",
        "/v2/models/model/infer?trace=1",
        "/v2/models/model/%69nfer",
    ],
)
def test_no_spelling_of_inference_passes_the_canary_by(service, canary, path):
    """A model's name may hold slashes, which clients send as they are or as %2F."""
    answer = service.ask(path=path)
    (entry,) = service.entries([answer.headers["x-request-id"]])
    assert (answer.member, entry.arm) == (canary.name, Role.CANARY)


@pytest.mark.parametrize("path", ["/", "/metrics", "/behave", "/v2x/models/model/infer", "/v2/../behave"])
def test_other_paths_are_refused(service, path):
    answer = service.ask(path=path)
    assert answer.status == 404
    assert "Open Inference Protocol" in answer.body["error"]


def test_request_over_the_limit_is_refused_and_one_at_the_limit_is_retried(service, canary):
    refused = service.ask(body=b"x" * (LIMITS.max_request_bytes + 1))
    assert refused.status == 413
    service.tell(canary, answer="reset")
    whole = service.ask(body=b"x" * LIMITS.max_request_bytes)
    assert (whole.status, whole.body["bytes"]) == (200, LIMITS.max_request_bytes)


@pytest.mark.parametrize("path", ["/quitquitquit", "/logging?level=debug", "/runtime_modify?a=b", "/healthcheck/fail"])
def test_administration_takes_no_orders(service, path):
    assert send(service.actual.admin_port, path, body=b"").status in (403, 404)


def test_administration_and_servers_listen_on_loopback_only(service):
    pids = [service.actual.envoy_pid, *(member.pid for member in service.actual.members)]
    found = {c.laddr.ip for pid in pids for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"}
    assert found == {"127.0.0.1"}


def test_no_request_is_lost_while_weights_change(service):
    service.serve(ALL)
    with Load(service.port, rate=200) as load:
        for number in range(50):
            plan = service.want(ALL, canary_weight=number % 5 / 10, baseline_weight=number % 3 / 10)
            service.until(lambda actual, plan=plan: actual.serial == plan.serial and actual.leased, "in force")
    assert load.failed == []
    assert len(load.answers) > 100
    entries = service.entries([answer.headers["x-request-id"] for answer in load.answers])
    assert {entry.event for entry in entries} == {None}


def test_envoy_that_dies_is_back_with_the_same_routes(service):
    plan = service.serve(ALL, canary_weight=1.0)
    before = service.actual
    psutil.Process(before.envoy_pid).send_signal(signal.SIGKILL)
    service.until(lambda actual: actual.envoy_pid not in (0, before.envoy_pid), "another Envoy")
    end = time.monotonic() + 20
    while (answer := service.ask()).status != 200 and time.monotonic() < end:
        time.sleep(0.01)
    assert answer.member == service.member(Role.CANARY).name
    assert (service.actual.serial, service.actual.envoy_restarts) == (plan.serial, before.envoy_restarts + 1)


def test_rotation_of_the_log_loses_no_entry(tmp_path):
    with running(tmp_path, log_megabytes=1) as small:
        small.serve(ALONE)
        answers = small.ask(times=12_000, at_once=8)
        assert (small.home.access_log.with_name("access.jsonl.1")).exists()
        entries = small.entries([answer.headers["x-request-id"] for answer in answers])
        assert len(entries) == 12_000
        assert all(a.t <= b.t + 30 for a, b in pairwise(entries))
