"""Rows as requests, and sending them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ci_tools.errors import DataError
from ci_tools.release.bundle.packing import pack
from ci_tools.release.rehearsal.replay import Replay, requests
from tests.release.bundle import toy


@pytest.fixture
def manifest(pipeline, key):
    return pack(key=key, created=toy.CREATED).manifest


def test_a_request_per_row_as_the_protocol_wants_it(tmp_path, manifest):
    rows = np.array([[1.0, 2.0], [np.nan, 0.5]], dtype=np.float32)
    np.savez(tmp_path / "rows.npz", rows=rows, label=np.zeros(2))
    first, second = map(json.loads, requests(tmp_path / "rows.npz", manifest))
    assert first == {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
    assert second["inputs"][0]["data"] == [None, 0.5], "a missing value is null"


def test_rows_without_an_input_are_refused(tmp_path, manifest):
    np.savez(tmp_path / "rows.npz", numeric=np.zeros((3, 2)))
    with pytest.raises(DataError, match="arrays named rows"):
        requests(tmp_path / "rows.npz", manifest)


def test_missing_file_of_rows_is_named(tmp_path, manifest):
    with pytest.raises(DataError, match=r"rows\.npz: has no requests to replay"):
        requests(tmp_path / "rows.npz", manifest)


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, bytes]]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, body))
        self.send_response(503 if body == b"bad" else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments):
        """No line per request."""


@pytest.fixture
def upstream():
    handler = type("Handler", (Upstream,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], handler.seen
    server.shutdown()
    server.server_close()


def until(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never happened")


def test_answers_and_failures_are_counted_apart(upstream):
    port, seen = upstream
    with Replay(port, "toy", [b"good", b"bad"], per_second=200) as replay:
        until(lambda: len(seen) >= 20)
    assert {path for path, _ in seen} == {"/v2/models/toy/infer"}
    assert replay.answered + replay.failed == len(seen), "those under way are waited for"
    assert abs(replay.answered - replay.failed) <= 1


def test_service_that_is_gone_counts_as_failures():
    with Replay(9, "toy", [b"good"], per_second=200) as replay:
        until(lambda: replay.failed >= 5)
    assert replay.answered == 0
