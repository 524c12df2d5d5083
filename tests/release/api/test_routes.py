"""The calls, asked as a client on the socket asks them."""

import json

import pytest

from ci_tools.errors import ConfigError, DataError, DependencyUnavailable, SwitchbackError
from ci_tools.release.api import app
from ci_tools.release.api.bodies import LABEL_BYTES, ORDER_BYTES
from ci_tools.release.control import Event, Status
from tests.release.api import scenes
from tests.release.api.asking import Asking
from tests.release.api.scenes import CANARY, Staged

WHO = {"actor": "Ada", "reason": "errors in the logs"}


@pytest.fixture
def control():
    return Staged(scenes.ramping(), scenes.ramp())


@pytest.fixture
def client(control):
    return Asking(app(control))


def test_status_comes_back_as_it_was(client, control):
    told = Status.model_validate_json(client.get("/status").content)
    assert told.model_copy(update={"actual": control.now.actual}) == control.now


def test_events_come_behind_a_number_and_up_to_a_limit(client, control):
    told = client.get("/events", params={"after": 2, "limit": 3}).json()["events"]
    assert [Event.model_validate_json(json.dumps(event)) for event in told] == control.ledger[2:5]
    assert len(client.get("/events").json()["events"]) == len(control.ledger)


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 40, "٣"])
def test_events_behind_no_number_are_refused(client, after):
    answer = client.get("/events", params={"after": after})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("after: must be a whole number")


@pytest.mark.parametrize("name", ["pause", "resume", "rollback", "promote"])
def test_order_reaches_the_control_with_actor_and_reason(client, control, name):
    answer = client.post(f"/{name}", json=WHO)
    assert answer.status_code == 200
    assert control.orders == [(name, "Ada", "errors in the logs")]
    assert Status.model_validate_json(answer.content).release == control.now.release


def test_submitting_a_bundle_begins_its_release(client, control):
    answer = client.post("/releases", json={"bundle": CANARY, "actor": "Ada"})
    assert (answer.status_code, answer.json()["bundle"]) == (201, CANARY)
    assert control.orders == [("submit", "Ada")]


def test_bundle_that_was_rolled_back_begins_anew_only_where_that_is_said(client, control):
    client.post("/releases", json={"bundle": CANARY, "actor": "Ada", "again": True})
    assert control.orders == [("submit again", "Ada")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"actor": "Ada"}, "reason: required key is missing"),
        ({"reason": "x"}, "actor: required key is missing"),
        (WHO | {"force": True}, "force: unknown key"),
        (WHO | {"actor": ""}, "actor: must be one line of printable text"),
        (WHO | {"actor": "  "}, "actor: must be one line of printable text"),
        (WHO | {"reason": "a\nb"}, "reason: must be one line of printable text"),
        (WHO | {"reason": "\u202egnp"}, "reason: must be one line of printable text"),
        (WHO | {"reason": "x" * 501}, "reason: string should have at most 500 characters"),
        (WHO | {"actor": 7}, "actor: input should be a valid string"),
    ],
)
def test_order_without_a_sound_actor_or_reason_is_refused_by_name(client, control, body, said):
    answer = client.post("/rollback", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(said)
    assert control.orders == []


@pytest.mark.parametrize("digest", ["", "x" * 64, "A" * 64, "a" * 63, "../../etc/passwd", None])
def test_bundle_is_named_by_its_digest_only(client, control, digest):
    assert client.post("/releases", json={"bundle": digest, "actor": "Ada"}).status_code == 422
    assert control.orders == []


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 10_000])
def test_body_that_is_no_json_object_is_refused(client, body):
    answer = client.post("/pause", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]


def test_body_that_is_too_large_is_refused_whether_it_says_so_or_not(client, control):
    kind = {"content-type": "application/json"}
    large = json.dumps(WHO | {"reason": "x" * ORDER_BYTES}).encode()
    assert client.post("/pause", content=large, headers=kind).status_code == 413
    assert client.post("/pause", content=iter([large]), headers=kind).status_code == 413
    told = client.post("/labels", content=iter([b" " * (LABEL_BYTES // 2)] * 3), headers=kind)
    assert (told.status_code, control.orders) == (413, [])


class TestLabels:
    def test_object_is_counted_with_those_that_belong(self, client, control):
        assert client.post("/labels", json={"a": 1, "b": 0.25}).json() == {"received": 2, "belonged": 1}
        assert control.orders == [("label", {"a": 1.0, "b": 0.25})]

    def test_lines_are_the_same_as_an_object(self, client, control):
        lines = b'{"id": "a", "label": 1}\n\n{"id": "b", "label": 0.25}\n{"label": 1, "id": "a"}'
        answer = client.post("/labels", content=lines, headers={"content-type": "application/x-ndjson"})
        assert answer.json() == {"received": 2, "belonged": 1}
        assert control.orders == [("label", {"a": 1.0, "b": 0.25})]

    @pytest.mark.parametrize("label", [-0.1, 1.1, True, None, "1", [1], float("nan"), 1e400])
    def test_label_outside_of_zero_to_one_is_refused_by_its_id(self, client, control, label):
        body = json.dumps({"good": 1, "bad": label})
        answer = client.post("/labels", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("'bad': must be a number in [0, 1]")
        assert control.orders == []

    @pytest.mark.parametrize(
        ("lines", "status", "said"),
        [
            (b'{"id": "a", "label": 1}\n{"id": "a", "label": 0}', 422, "'a': has two labels"),
            (b'{"id": "a", "label": 1}\n{"id": 5, "label": 0}', 422, "request ids are texts"),
            (b'{"id": "a"}', 422, "line 1: must hold `id` and `label`"),
            (b'{"id": "a", "label": 1}\nx', 400, "line 2 is not JSON"),
        ],
    )
    def test_damaged_line_is_refused_by_its_number(self, client, control, lines, status, said):
        answer = client.post("/labels", content=lines, headers={"content-type": "application/x-ndjson"})
        assert answer.status_code == status
        assert answer.json()["error"].startswith(said)
        assert control.orders == []


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ConfigError("no release is in progress", fix="submit one"), 409, "no release is in progress"),
        (DataError("label is late", where="labels"), 422, "labels: label is late"),
        (DependencyUnavailable("Envoy is gone"), 503, "Envoy is gone"),
        (SwitchbackError("the disk is full", where="ledger.db", rule="R"), 409, "ledger.db: the disk is full; R"),
        (OSError(28, "No space left on device", "ledger.db"), 503, "ledger.db: No space left on device"),
        (KeyError("/secret/path"), 500, "the service failed at this request; its log says where"),
    ],
)
def test_what_the_control_refuses_is_told_without_a_traceback(client, control, capsys, error, status, told):
    control.broken = error
    answer = client.get("/status")
    assert answer.status_code == status
    assert answer.json()["error"].startswith(told)
    assert "Traceback" not in answer.text
    assert "Traceback" not in capsys.readouterr().err


def test_fault_of_the_service_is_one_line_in_its_log(client, control, capsys):
    control.broken = KeyError("a\nb")
    client.get("/status")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: GET /status: KeyError: ")
    assert "scenes.py:" in line


def test_unknown_path_and_method_are_told_what_there_is(client):
    for answer, status in ((client.get("/nothing"), 404), (client.get("/pause"), 405)):
        assert answer.status_code == status
        assert "POST /releases" in answer.json()["fix"]


class TestHealth:
    def test_alive_while_the_supervisor_speaks_and_the_champion_answers(self, client):
        assert client.get("/healthz").json() == {"alive": True}

    def test_not_alive_without_a_champion_that_answers(self, client, control):
        control.now = scenes.ramping().model_copy(update={"actual": scenes.actual().model_copy(update={"members": ()})})
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"alive": False})

    def test_not_alive_when_the_supervisor_is_silent(self, client, control, monkeypatch):
        silent = scenes.ramping()
        old = silent.actual.model_copy(update={"heartbeat": silent.actual.heartbeat - 60})
        monkeypatch.setattr(control, "status", lambda: silent.model_copy(update={"actual": old}))
        assert client.get("/healthz").status_code == 503
        assert client.get("/readyz").json() == {"ready": False}

    def test_service_without_a_champion_lives_and_is_not_ready(self, client, control):
        """A restart would bring no champion; traffic would get 503."""
        assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"ready": True})
        control.now = scenes.idle().model_copy(update={"champion": ""})
        assert client.get("/healthz").status_code == 200
        assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (503, {"ready": False})


def test_answers_are_kept_by_nobody(client):
    for path in ("/", "/status", "/metrics", "/nothing"):
        assert client.get(path).headers["cache-control"] == "no-store"
