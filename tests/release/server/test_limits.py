"""What a server does with more than it can take: too large, too many, too late; and how it ends."""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.release import graphs
from tests.release.server import bundles
from tests.release.server.running import INFER, launch, request, serving, wait_for

FAULTY = (sys.executable, "-m", "tests.release.faulty_server")
UNDER_WAY = "switchback_server_in_flight_requests"


def faulty(bundle, fault, *flags):
    return serving(bundle, "--fault", fault, *flags, program=FAULTY)


def raw(port, data, *, half=False):
    """Send bytes as they are; all that comes back until the server closes, or a second of silence after an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        if half:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
        connection.settimeout(1)
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            return answer
        return answer


# Size


@pytest.fixture(scope="module")
def narrow(bundle):
    with serving(bundle, "--body-bytes", 2000) as server:
        yield server


def test_body_that_is_too_large_is_413(narrow):
    status, answer = narrow.infer(json.dumps(request()).encode().ljust(2001))
    assert status == 413
    assert answer == {"error": "the body may have 2000 bytes"}
    assert narrow.infer(json.dumps(request()).encode().ljust(2000))[0] == 200


def test_body_of_unknown_length_is_413_as_soon_as_it_is_too_large(narrow):
    connection = http.client.HTTPConnection("127.0.0.1", narrow.port, timeout=60)
    connection.putrequest("POST", INFER)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"7d1\r\n" + b" " * 2001 + b"\r\n")  # and no end
    assert connection.getresponse().status == 413
    connection.close()


def test_declared_size_alone_is_refused_before_the_body_comes(narrow):
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode()
    assert raw(narrow.port, head).startswith(b"HTTP/1.1 413")


def test_body_that_breaks_off_harms_nobody(narrow):
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=60) as connection:
        connection.sendall(head + b'{"in')
    wait_for(lambda: narrow.metric(UNDER_WAY) == 0)
    assert narrow.infer(request())[0] == 200


# Deadlines and the queue


def test_deadline_of_the_request_is_kept_while_the_model_hangs(bundle):
    with faulty(bundle, "hang:1") as server:
        started = time.monotonic()
        status, answer = server.infer(request(), {"X-Request-Timeout-Ms": "200"})
        assert (status, answer) == (504, {"error": "no answer within the deadline of 200 ms"})
        assert time.monotonic() - started >= 0.2
        assert server.get("/v2/health/live")[0] == 200
        assert server.logged(1)[0]["scores"] is None


def test_deadline_of_the_server_holds_where_the_request_names_a_later_one_or_none(bundle):
    with faulty(bundle, "hang:1", "--timeout-ms", 300) as server:
        for headers in ({}, {"X-Request-Timeout-Ms": "99999999"}):
            assert server.infer(request(), headers) == (504, {"error": "no answer within the deadline of 300 ms"})


def test_client_that_sends_no_body_meets_the_deadline_too(bundle):
    with serving(bundle, "--timeout-ms", 200) as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n".encode()
        assert raw(server.port, head).startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "1" * 20])
def test_deadline_that_is_none_is_400(server, value):
    status, answer = server.infer(request(), {"X-Request-Timeout-Ms": value})
    assert status == 400
    assert "x-request-timeout-ms must be a whole number" in answer["error"]


def test_full_queue_is_503_with_retry_after_and_nobody_else_suffers(bundle):
    with faulty(bundle, "hang:1", "--queue", 2, "--timeout-ms", 3000) as server, ThreadPoolExecutor(3) as pool:
        first = pool.submit(server.infer, request())
        wait_for(lambda: server.metric(UNDER_WAY) == 1 and server.metric("switchback_server_queue_requests") == 0)
        waiting = [pool.submit(server.infer, request()) for _ in range(2)]
        wait_for(lambda: server.metric("switchback_server_queue_requests") == 2)
        status, headers, body = server.ask("POST", INFER, json.dumps(request()))
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert json.loads(body) == {"error": "2 requests wait already"}
        assert [one.result()[0] for one in (first, *waiting)] == [504] * 3


def test_more_connections_than_any_limit_of_the_library_are_served(bundle):
    with serving(bundle) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(300)]
        assert server.infer(request())[0] == 200
        for one in idle:
            one.close()


# The end


def test_drain_answers_what_is_under_way_and_what_still_comes(bundle):
    with faulty(bundle, "slow:300", "--batch-rows", 1) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.infer, request()) for _ in range(3)]
        wait_for(lambda: server.metric(UNDER_WAY) == 3)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "SIGTERM: drains, 3 requests" in server.told)
        assert server.get("/v2/health/ready") == (503, {"live": False, "ready": False})
        assert server.ask("GET", "/v2/health/ready")[1]["connection"] == "close"
        assert server.get(f"/v2/models/{bundles.NAME}/ready")[0] == 503
        assert server.get("/v2/health/live")[0] == 200
        asked.append(pool.submit(server.infer, request()))
        assert [one.result()[0] for one in asked] == [200] * 4
        assert server.process.wait(60) == 0
        assert server.told.splitlines()[-1] == "server m1: drained, every request was answered"
        assert len(server.logged(4)) == 4


def test_drain_under_constant_load_ends_and_loses_nothing_that_was_taken(bundle):
    with serving(bundle, "--drain-seconds", 1) as server:
        seen, stopped = [], threading.Event()

        def load():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            while not stopped.is_set():
                try:
                    connection.request("POST", INFER, json.dumps(request()))
                    answer = connection.getresponse()
                    answer.read()
                    seen.append(answer.status)
                except ConnectionRefusedError:
                    return
                except (http.client.RemoteDisconnected, ConnectionError):
                    connection.close()  # closed before it took this request; a new one is refused
            connection.close()

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(seen) > 20)
        assert server.stop() == 0
        stopped.set()
        for thread in threads:
            thread.join()
        assert set(seen) <= {200, 503}
        assert seen.count(200) > 20


def test_request_that_hangs_is_told_its_deadline_though_the_drain_is_shorter(bundle):
    with (
        faulty(bundle, "hang:1", "--drain-seconds", 0.2, "--timeout-ms", 2000) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(server.infer, request())
        wait_for(lambda: server.metric(UNDER_WAY) == 1)
        assert server.stop() == 0, "an answer, if a bad one"
        assert asked.result()[0] == 504


def test_second_signal_ends_at_once(bundle):
    with faulty(bundle, "hang:1") as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.infer, request())
        wait_for(lambda: server.metric(UNDER_WAY) == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "drains, 1 requests" in server.told)
        assert server.stop() == 128 + signal.SIGTERM
        assert server.told.splitlines()[-1] == "server m1: second SIGTERM: ends at once"
        with pytest.raises((http.client.HTTPException, OSError)):
            asked.result()


def test_interrupt_drains_as_well(bundle):
    with serving(bundle) as server:
        assert server.stop(signal.SIGINT) == 0


# Memory


def test_server_that_takes_too_much_memory_ends_and_says_so(bundle):
    with faulty(bundle, "leak:50", "--memory-mb", 400) as server:
        for _ in range(100):
            try:
                assert server.infer(request())[0] == 200
            except (http.client.HTTPException, OSError):
                break
        assert server.process.wait(60) == 1
        assert "MB of memory, and may use 400" in server.told.splitlines()[-1]


def test_graph_that_takes_too_much_memory_ends_the_server(tmp_path):
    greedy = bundles.pack(tmp_path, graphs.risk("memory", 3000))
    with serving(greedy, "--memory-mb", 600) as server:
        with pytest.raises((http.client.HTTPException, OSError)):
            server.infer(request())
        assert server.process.wait(60) == 1
        assert "MB of memory, and may use 600" in server.told.splitlines()[-1]


# What keeps it from starting


def refused(bundle, *flags, **options):
    """Exit code and the last line of a server that must not start."""
    server = launch(bundle, *flags, **options)
    code = server.process.wait(60)
    lines = server.told.splitlines()
    assert "Traceback" not in server.told
    return code, lines[-1]


def test_taken_port_is_named(bundle, server):
    code, line = refused(bundle, port=server.port)
    assert code == 4, "not the bundle's fault: it may be tried again"
    assert f"127.0.0.1:{server.port} cannot be had (Address already in use)" in line


def test_address_of_another_machine_is_one_sentence(bundle):
    code, line = refused(bundle, "--host", "203.0.113.1")
    assert code == 4
    assert "203.0.113.1" in line


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--batch-rows", "0"), "batch_rows: input should be greater than or equal to 1, got 0"),
        (("--queue", "-1"), "queue"),
        (("--timeout-ms", "0"), "timeout_ms"),
        (("--device", "tpu"), "device: input should be 'cpu' or 'cuda', got 'tpu'"),
    ],
)
def test_flag_out_of_range_is_named(bundle, flags, sentence):
    code, line = refused(bundle, *flags)
    assert code == 2
    assert sentence in line


def test_missing_device_is_a_missing_dependency(bundle):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a CUDA device")
    code, line = refused(bundle, "--device", "cuda")
    assert code == 4
    assert "CUDAExecutionProvider" in line


def test_altered_bundle_is_refused_before_it_listens(tmp_path):
    altered = bundles.pack(tmp_path)
    content = bytearray((altered / "model.onnx").read_bytes())
    content[100] ^= 1
    (altered / "model.onnx").write_bytes(content)
    code, line = refused(altered)
    assert code == 2
    assert "model.onnx" in line


def test_unwritable_prediction_log_is_refused(bundle, tmp_path):
    (tmp_path / "file").touch()
    code, line = refused(bundle, "--predictions", tmp_path / "file" / "predictions.jsonl")
    assert code == 2
    assert "predictions.jsonl" in line


def test_server_that_dies_leaves_no_process(bundle):
    with serving(bundle) as server:
        pid = server.process.pid
        server.process.kill()
        server.process.wait()
        assert not os.path.exists(f"/proc/{pid}")
