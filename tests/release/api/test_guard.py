"""Who is let in: tokens, cookies, and requests that a browser was talked into."""

import pytest

from ci_tools.release.api import app
from tests.release.api import scenes
from tests.release.api.asking import Asking
from tests.release.api.scenes import Staged

TOKEN = "s3cret-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}
WHO = {"actor": "Ada", "reason": "because"}


@pytest.fixture
def control():
    return Staged(scenes.ramping(), scenes.ramp())


@pytest.fixture
def client(control):
    return Asking(app(control, TOKEN), "http://127.0.0.1:8443")


@pytest.mark.parametrize("path", ["/", "/news", "/status", "/events", "/metrics", "/nothing", "/healthz/x"])
@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])
def test_nothing_is_told_without_the_token(client, path, header):
    answer = client.get(path, headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/pause", "/resume", "/rollback", "/promote", "/releases", "/labels"])
def test_nothing_is_done_without_the_token(client, control, path):
    assert client.post(path, json=WHO).status_code == 401
    assert client.post(f"{path}?token={TOKEN}", json=WHO).status_code == 401
    assert control.orders == []


def test_bearer_is_let_in(client, control):
    assert client.get("/status", headers=BEARER).status_code == 200
    assert client.post("/pause", json=WHO, headers=BEARER).status_code == 200
    assert control.orders == [("pause", "Ada", "because")]


def test_liveness_needs_no_token_and_tells_nothing(client):
    assert client.get("/healthz").json() == {"alive": True}
    assert client.get("/readyz").json() == {"ready": True}


def test_page_opened_by_token_gives_a_cookie_for_the_rest(client, control):
    first = client.get("/", params={"token": TOKEN})
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert TOKEN not in cookie
    assert client.get("/news").status_code == 200
    assert client.post("/pause", json=WHO).status_code == 200
    assert control.orders == [("pause", "Ada", "because")]


def test_token_in_the_address_opens_the_page_only(client):
    assert client.get("/status", params={"token": TOKEN}).status_code == 401
    assert client.get("/", params={"token": "wrong"}).status_code == 401


def test_cookie_of_another_service_opens_nothing(client):
    other = Asking(app(Staged(), "another"), "http://127.0.0.1:9443")
    other.get("/", params={"token": "another"})
    client.cookies = other.cookies
    assert client.get("/news").status_code == 401


@pytest.mark.parametrize("token", [TOKEN, None])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "", "[::2]", "127.0.0.2"]
)
def test_name_that_only_resolves_to_this_machine_is_refused(control, token, host):
    client = Asking(app(control, token), "http://127.0.0.1")
    answer = client.get("/status", headers=BEARER | {"host": host})
    assert answer.status_code == 400
    assert answer.json()["error"] == "the Host header names another machine"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "LOCALHOST:9", "[::1]:9", "[::1]"])
def test_this_machine_has_several_names(client, host):
    assert client.get("/status", headers=BEARER | {"host": host}).status_code == 200


def test_other_hosts_are_let_in_where_they_were_named(control):
    client = Asking(app(control, TOKEN, hosts=["Release.corp"]), "http://release.corp")
    assert client.get("/status", headers=BEARER).status_code == 200
    assert client.get("/status", headers=BEARER | {"host": "localhost"}).status_code == 400


def test_cookie_goes_through_the_network_by_https_only(control):
    opened = f"/?token={TOKEN}"
    proxied = Asking(app(control, TOKEN, hosts=["release.corp"]), "http://release.corp")
    assert proxied.get(opened).headers["set-cookie"].endswith("; Path=/; Secure")
    here = Asking(app(control, TOKEN), "http://127.0.0.1")
    assert here.get(opened).headers["set-cookie"].endswith("; Path=/")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_form_of_a_foreign_page_changes_nothing(client, control, kind):
    body = b'{"actor": "Ada", "reason": "because"}'
    answer = client.post("/rollback", content=body, headers=BEARER | {"content-type": kind})
    assert (answer.status_code, control.orders) == (415, [])


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9", "null", "http://127.0.0.1:8443.evil"])
def test_foreign_origin_changes_nothing(client, control, origin):
    answer = client.post("/rollback", json=WHO, headers=BEARER | {"origin": origin})
    assert (answer.status_code, control.orders) == (403, [])


def test_own_origin_is_let_in(client, control):
    client.post("/pause", json=WHO, headers=BEARER | {"origin": "http://127.0.0.1:8443"})
    assert control.orders == [("pause", "Ada", "because")]


def test_no_answer_may_stand_in_a_frame(client):
    for path in ("/", "/status", "/healthz"):
        assert client.get(path, headers=BEARER).headers["x-frame-options"] == "DENY"


def test_empty_token_is_a_mistake():
    with pytest.raises(ValueError, match="everybody"):
        app(Staged(), "")
