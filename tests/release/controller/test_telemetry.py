"""Silence of the log is only a loss where Envoy says that there was something to tell."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ci_tools.release.controller.telemetry import Telemetry, answered
from ci_tools.release.plan import Actual


class Scene:
    """A log, a counter and a heartbeat; one look a second."""

    def __init__(self, path):
        self.log, self.count, self.now, self.heard, self.damaged = path / "access.jsonl", 0, 100.0, True, 0
        self.log.write_text("")
        self.telemetry = Telemetry(self.log, 3.0, lambda actual: self.count)

    def second(self, requests=0, logged=None):
        self.now += 1
        if self.count is not None:
            self.count += requests
        with self.log.open("a") as file:
            file.write("x\n" * (requests if logged is None else logged))
        heartbeat = self.now if self.heard else 100.0
        return self.telemetry.look(self.now, Actual(heartbeat=heartbeat), self.damaged)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_no_traffic_is_no_loss(scene):
    assert [scene.second() for _ in range(10)] == [""] * 10
    assert scene.telemetry.per_second == 0.0


def test_traffic_that_is_logged_is_fine_and_measured(scene):
    assert [scene.second(50) for _ in range(10)] == [""] * 10
    assert scene.telemetry.per_second == pytest.approx(50.0)


def test_requests_of_which_the_log_says_nothing_are_a_loss_after_a_while_and_until_it_tells_again(scene):
    scene.second(50)
    told = [scene.second(50, logged=0) for _ in range(6)]
    assert told[:3] == [""] * 3
    assert "the access log says nothing, for 4 s" in told[4]
    assert scene.second(50) == ""


def test_a_log_that_is_gone_is_a_loss(scene):
    scene.second(50)
    scene.log.unlink()
    scene.telemetry.look(scene.now, Actual(heartbeat=scene.now), 0)
    scene.log = scene.log.with_name("other")
    assert any(scene.second(50) for _ in range(6))


def test_an_envoy_that_began_anew_counts_from_nothing(scene):
    scene.second(500)
    scene.count = 0
    assert [scene.second() for _ in range(6)] == [""] * 6


def test_an_envoy_that_does_not_answer_is_no_loss_of_the_log(scene):
    scene.second(50)
    scene.count = None
    assert [scene.second(50, logged=0) for _ in range(6)] == [""] * 6


def test_damaged_lines_are_told_for_a_while(scene):
    scene.damaged = 2
    assert "2 lines of the access log are damaged" in scene.second(5)
    told = [scene.second(5) for _ in range(10)]
    assert told[-1] == ""
    assert told[0] != ""


def test_a_silent_supervisor_is_told(scene):
    scene.heard = False
    assert [bool(scene.second()) for _ in range(5)] == [False, False, False, True, True]
    assert scene.telemetry.look(scene.now, Actual(), 0) == "The supervisor does not tell what runs."


def test_envoys_own_counter_is_read():
    class Admin(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"http.clients.downstream_rq_completed: 417\n" if "completed" in self.path else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    with HTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        assert answered(Actual(admin_port=server.server_port)) == 417
        server.shutdown()
        thread.join()
        port = server.server_port
    assert answered(Actual(admin_port=port)) is None
    assert answered(Actual()) is None
