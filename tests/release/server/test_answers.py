"""Answers of the model that are none, and the log of all answers."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.release import graphs
from tests.release.server import bundles
from tests.release.server.running import INFER, request, serving, wait_for

FAULTY = (sys.executable, "-m", "tests.release.faulty_server")


@pytest.fixture(scope="module")
def nan(tmp_path_factory):
    with serving(bundles.pack(tmp_path_factory.mktemp("nan"), graphs.risk("nan", 0.5))) as server:
        yield server


def spoiled(server, value):
    """Whether a row of that value is answered with NaN."""
    return server.infer(request(value=value))[0] == 500


def test_answer_that_is_not_finite_is_500_with_an_event(nan):
    value = next(v for v in range(1, 100) if spoiled(nan, v))
    status, headers, body = nan.ask("POST", INFER, json.dumps(request(value=value)))
    assert status == 500
    assert headers["x-switchback-event"] == "invalid_outputs"
    assert json.loads(body) == {"error": "output 'logit': must be finite, got nan"}
    assert nan.metric("switchback_server_invalid_outputs_total") >= 2


def test_sound_rows_are_answered_by_the_same_server_without_an_event(nan):
    value = next(v for v in range(1, 100) if not spoiled(nan, v))
    status, headers, _ = nan.ask("POST", INFER, json.dumps(request(value=value)))
    assert status == 200
    assert "x-switchback-event" not in headers


def test_bad_request_of_a_batch_fails_alone(nan):
    values = [float(v) for v in range(1, 61)]
    alone = [spoiled(nan, value) for value in values]
    assert 0 < sum(alone) < len(values)
    with ThreadPoolExecutor(12) as pool:
        for _ in range(3):
            assert list(pool.map(lambda value: spoiled(nan, value), values)) == alone


def test_score_outside_of_the_unit_interval_is_invalid(tmp_path):
    with serving(bundles.pack(tmp_path, graphs.risk("garbage", 1.0))) as server:
        status, headers, body = server.ask("POST", INFER, json.dumps(request()))
        assert status == 500
        assert headers["x-switchback-event"] == "invalid_outputs"
        assert json.loads(body)["error"].startswith("output 'score': must lie in [0, 1], got 1.")
        assert server.logged(1)[0]["scores"] is None


def test_flipped_decisions_are_answers_like_any_other(tmp_path):
    share = 0.2
    sound, flipped = bundles.pack(tmp_path / "a"), bundles.pack(tmp_path / "b", graphs.risk("flips", share))
    rows = np.random.default_rng(0).normal(size=(1000, 4)).round(3)
    asked = {
        "inputs": [
            {"name": "numeric", "datatype": "FP32", "shape": rows.shape, "data": rows.tolist()},
            {"name": "categorical", "datatype": "INT64", "shape": [1000, 2], "data": [0] * 2000},
        ]
    }
    scores = []
    for bundle in (sound, flipped):
        with serving(bundle) as server:
            status, answer = server.infer(asked)
            assert status == 200
            scores.append(np.array(answer["outputs"][1]["data"]))
    assert np.mean((scores[0] >= 0.5) != (scores[1] >= 0.5)) == pytest.approx(share, abs=0.05)


def test_failing_run_is_500_without_a_traceback(bundle):
    with serving(bundle, "--fault", "errors:1", program=FAULTY) as server:
        status, headers, body = server.ask("POST", INFER, json.dumps(request()))
        assert status == 500
        assert "x-switchback-event" not in headers
        assert json.loads(body) == {"error": "the model failed: planted"}
        assert "Traceback" not in server.told


# The prediction log


def test_answers_are_logged_with_id_bundle_scores_and_time(bundle):
    with serving(bundle) as server:
        _, answer = server.infer(request(2), {"X-Request-Id": "abc"})
        server.infer(request(), {"X-Request-Id": "abc", "Host": "shop.example-shadow:8080"})
        server.infer(b"{}")  # asks the model nothing
        server.infer(request())
        server.infer(request())
        lines = server.logged(4)
    assert [line["id"] for line in lines[:2]] == ["abc", "abc"]
    assert [line["mirror"] for line in lines] == [False, True, False, False]
    assert lines[2]["id"] != lines[3]["id"]
    assert lines[0]["scores"] == [float(np.float32(score)) for score in answer["outputs"][1]["data"]]
    for line in lines:
        assert set(line) == {"id", "t", "bundle", "mirror", "scores", "ms"}
        assert line["bundle"] == bundle.name
        assert 0 < line["ms"] < 60_000
        assert line["t"] > 1.7e9


def test_scores_are_null_where_the_manifest_names_no_decision(tmp_path):
    with serving(bundles.pack(tmp_path, decision=None)) as server:
        assert server.infer(request())[0] == 200
        assert server.logged(1)[0]["scores"] is None


def test_log_that_cannot_be_written_any_more_fails_no_request(bundle):
    with serving(bundle, "--predictions", "/dev/full") as server:
        for _ in range(5):
            assert server.infer(request())[0] == 200
        wait_for(lambda: server.metric("switchback_server_predictions_dropped_total") == 5)
        assert server.stop() == 0
