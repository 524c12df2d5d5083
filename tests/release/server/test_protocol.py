"""The Open Inference Protocol's REST half, case by case from its specification, against a running server.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and the binary tensor data extension of Triton (extension_binary_data.md).
"""

import copy
import json

import numpy as np
import onnxruntime
import pytest

from tests.release import graphs
from tests.release.server.bundles import NAME
from tests.release.server.running import INFER, request

BASE = f"/v2/models/{NAME}"


@pytest.fixture(scope="module")
def version(bundle):
    return f"{BASE}/versions/{bundle.name}"


def expected(numeric, categorical):
    """What ONNX Runtime says, asked directly."""
    session = onnxruntime.InferenceSession(graphs.risk(), providers=["CPUExecutionProvider"])
    inputs = {"numeric": np.array(numeric, np.float32), "categorical": np.array(categorical, np.int64)}
    return dict(zip(("logit", "score"), session.run(["logit", "score"], inputs), strict=True))


def changed(path, value, base=None):
    """The usual request with one part replaced, or removed where the value is `...`."""
    asked = copy.deepcopy(base or request())
    place = asked
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return asked


# Health and metadata


def test_live(server):
    assert server.get("/v2/health/live") == (200, {"live": True})


def test_ready(server):
    status, answer = server.get("/v2/health/ready")
    assert status == 200
    assert answer == {"live": True, "ready": True}


def test_server_metadata_has_name_version_and_extensions(server):
    for path in ("/v2", "/v2/"):
        status, answer = server.get(path)
        assert status == 200
        assert set(answer) == {"name", "version", "extensions"}
        assert isinstance(answer["name"], str)
        assert isinstance(answer["version"], str)
        assert answer["extensions"] == ["binary_tensor_data"]


def test_model_ready_names_the_model(server, version):
    for path in (BASE, version):
        assert server.get(f"{path}/ready") == (200, {"name": NAME, "ready": True})


def test_model_metadata_tells_versions_platform_and_tensors(server, version, bundle):
    for path in (BASE, version):
        status, answer = server.get(path)
        assert status == 200
        assert answer == {
            "name": NAME,
            "versions": [bundle.name],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "numeric", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "categorical", "datatype": "INT64", "shape": [-1, 2]},
            ],
            "outputs": [
                {"name": "logit", "datatype": "FP32", "shape": [-1]},
                {"name": "score", "datatype": "FP32", "shape": [-1]},
            ],
        }


def test_metadata_and_answers_are_json(server):
    for method, path, body in (("GET", "/v2", None), ("GET", BASE, None), ("POST", INFER, json.dumps(request()))):
        assert server.ask(method, path, body)[1]["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/v2/health", "/v2/models", "/v2/models/other", "/v2/models/other/infer", "/v2/models/",
     f"{BASE}/versions/1", f"{BASE}/versions/1/infer", f"{BASE}/infer/", f"{BASE.upper()}", "/v2/health/ready/",
     "/V2", "//v2", f"{BASE}/versions", f"{BASE}/explain"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_404_and_says_which_model_is_here(server, path, method):
    status, _, body = server.ask(method, path, b"{}" if method == "POST" else None)
    assert status == 404
    assert NAME in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", INFER, "POST"), ("PUT", INFER, "POST"), ("DELETE", INFER, "POST"), ("POST", "/v2", "GET"),
     ("POST", "/v2/health/ready", "GET"), ("PATCH", BASE, "GET"), ("POST", f"{BASE}/ready", "GET")],
)  # fmt: skip
def test_wrong_verb_is_405_and_names_the_right_one(server, method, path, allowed):
    status, headers, body = server.ask(method, path)
    assert status == 405
    assert headers["allow"] == allowed
    assert allowed in json.loads(body)["error"]


def test_name_with_a_slash_may_arrive_escaped(server):
    assert server.infer(request(), path=INFER.replace(NAME, NAME.replace("/", "%2F")))[0] == 200


# Inference: what is answered


def test_answer_is_what_the_runtime_says(server, version, bundle):
    numeric, categorical = [[0.5, -1, 2, 0.25], [9, 8, 7, 6], [0, 0, 0, 0]], [[1, 7], [0, 0], [3, 2]]
    asked = {
        "inputs": [
            {"name": "numeric", "datatype": "FP32", "shape": [3, 4], "data": numeric},
            {"name": "categorical", "datatype": "INT64", "shape": [3, 2], "data": categorical},
        ]
    }
    for path in (INFER, f"{version}/infer"):
        status, answer = server.infer(asked, path=path)
        assert status == 200
        assert answer["model_name"] == NAME
        assert answer["model_version"] == bundle.name
        assert [one["name"] for one in answer["outputs"]] == ["logit", "score"]
        for one in answer["outputs"]:
            assert one["datatype"] == "FP32"
            assert one["shape"] == [3]
            assert np.array_equal(np.array(one["data"], np.float32), expected(numeric, categorical)[one["name"]])


def test_flat_and_nested_data_mean_the_same(server):
    nested = changed(("inputs", 0, "data"), [[0.5, -1.0, 2.0, 0.25]])
    assert server.infer(nested) == server.infer(request())


def test_order_of_inputs_does_not_matter(server):
    assert server.infer({"inputs": request()["inputs"][::-1]}) == server.infer(request())


def test_whole_numbers_are_numbers_of_a_floating_tensor(server):
    assert server.infer(changed(("inputs", 0, "data"), [1, 2, 3, 4]))[0] == 200


def test_null_is_a_missing_number(server):
    status, answer = server.infer(changed(("inputs", 0, "data"), [None, 1.0, 2.0, 3.0]))
    assert status == 200
    wanted = expected([[np.nan, 1, 2, 3]], [[1, 7]])["score"]
    assert np.float32(answer["outputs"][1]["data"][0]) == wanted[0]


@pytest.mark.parametrize("identity", ["42", "", "ü ✓", "x" * 1000])
def test_id_is_returned(server, identity):
    assert server.infer(request(id=identity))[1]["id"] == identity


def test_no_id_is_made_up(server):
    assert "id" not in server.infer(request())[1]


@pytest.mark.parametrize("names", [["score"], ["logit"], ["score", "logit"]])
def test_only_requested_outputs_come_in_their_order(server, names):
    status, answer = server.infer(request(outputs=[{"name": name} for name in names]))
    assert status == 200
    assert [one["name"] for one in answer["outputs"]] == names


@pytest.mark.parametrize("more", [{"outputs": []}, {"outputs": None}, {"parameters": {}}, {"parameters": {"x": 1}},
                                  {"parameters": None}, {"unheard_of": [1]}])  # fmt: skip
def test_optional_parts_may_be_empty_or_of_extensions_that_are_not_here(server, more):
    status, answer = server.infer(request(**more))
    assert status == 200
    assert len(answer["outputs"]) == 2


def test_keep_alive_connection_answers_again_and_again(server):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for body in (json.dumps(request()), "{", json.dumps(request())):
        connection.request("POST", INFER, body)
        answer = connection.getresponse()
        assert answer.status == (400 if body == "{" else 200)
        answer.read()
    connection.close()


def test_chunked_body_is_read(server):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = json.dumps(request()).encode()
    connection.request("POST", INFER, iter([body[:10], body[10:]]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert connection.getresponse().status == 200
    connection.close()


# Inference: what is refused. Each sentence names what is wrong.

NAMES = ("numeric", "categorical")
NUMERIC, CATEGORICAL = ("inputs", 0), ("inputs", 1)
REFUSED = {
    "body that is no JSON": (b"{", "no JSON"),
    "empty body": (b"", "no JSON"),
    "NaN literal": (json.dumps(changed((*NUMERIC, "data"), [float("nan")] * 4)).encode(), "no JSON"),
    "number beyond every float": (b'{"inputs": [1e999]}', "no JSON"),
    "body that is no UTF-8": (b'{"id": "\xff"}', "no JSON"),
    "deep nesting": (b"[" * 100_000, "no JSON"),
    "body that is a list": (b"[]", "must be an object"),
    "id that is a number": (request(id=42), "id must be a string"),
    "no inputs": (changed(("inputs",), ...), "inputs must be an array"),
    "inputs that are an object": (changed(("inputs",), {}), "inputs must be an array"),
    "input that is a string": (changed(("inputs",), ["numeric"]), "inputs must be an array"),
    "empty inputs": (changed(("inputs",), []), "'numeric': missing"),
    "missing input": (changed(CATEGORICAL, ...), "'categorical': missing"),
    "input given twice": (changed(("inputs",), [request()["inputs"][0]] * 2), "'numeric': given twice"),
    "unknown input": (changed((*NUMERIC, "name"), "nummeric"), "no such input; it takes numeric, categorical"),
    "input without name": (changed((*NUMERIC, "name"), ...), "no such input"),
    "name that is a list": (changed((*NUMERIC, "name"), ["numeric"]), "no such input"),
    "no datatype": (changed((*NUMERIC, "datatype"), ...), "'numeric': datatype must be FP32, got None"),
    "wrong datatype": (changed((*NUMERIC, "datatype"), "FP64"), "'numeric': datatype must be FP32, got 'FP64'"),
    "datatype in small letters": (changed((*NUMERIC, "datatype"), "fp32"), "datatype must be FP32"),
    "no shape": (changed((*NUMERIC, "shape"), ...), "'numeric': shape must be"),
    "shape that is a number": (changed((*NUMERIC, "shape"), 4), "'numeric': shape must be"),
    "shape of floats": (changed((*NUMERIC, "shape"), [1.0, 4.0]), "'numeric': shape must be"),
    "shape of bools": (changed((*NUMERIC, "shape"), [True, 4]), "'numeric': shape must be"),
    "wrong width": (changed((*NUMERIC, "shape"), [1, 5]), "'numeric': shape must be [-1, 4]"),
    "wrong rank": (changed((*NUMERIC, "shape"), [4]), "'numeric': shape must be [-1, 4]"),
    "no row": (request(0), "'numeric': shape must be [-1, 4]"),
    "negative rows": (changed((*NUMERIC, "shape"), [-1, 4]), "'numeric': shape must be"),
    "rows beyond any memory": (changed((*NUMERIC, "shape"), [2**62, 4]), "got 4"),
    "rows of more than 64 bits": (changed((*NUMERIC, "shape"), [2**63, 4]), "got 4"),
    "other numbers of rows": (changed(CATEGORICAL, request(2)["inputs"][1]), "'categorical': has 2 rows"),
    "no data": (changed((*NUMERIC, "data"), ...), "'numeric': data is missing"),
    "data that is a number": (changed((*NUMERIC, "data"), 1.0), "'numeric': data must be an array"),
    "data that is null": (changed((*NUMERIC, "data"), None), "'numeric': data must be an array"),
    "too little data": (changed((*NUMERIC, "data"), [1.0] * 3), "has 4 elements, got 3"),
    "too much data": (changed((*NUMERIC, "data"), [1.0] * 5), "has 4 elements, got 5"),
    "data of another nesting": (changed((*NUMERIC, "data"), [[1.0, 2.0], [3.0, 4.0]]), "must have the shape (1, 4)"),
    "ragged data": (changed((*NUMERIC, "data"), [[1.0, 2.0], [3.0]]), "must have the shape"),
    "data nested too deep": (changed((*NUMERIC, "data"), [[[1.0, 2.0, 3.0, 4.0]]]), "'numeric'"),
    "strings for numbers": (changed((*NUMERIC, "data"), ["1", "2", "3", "4"]), "must be numbers or null, got '1'"),
    "bools for numbers": (changed((*NUMERIC, "data"), [True] * 4), "must be numbers or null, got True"),
    "objects for numbers": (changed((*NUMERIC, "data"), [{}] * 4), "must be numbers or null, got {}"),
    "number that FP32 cannot hold": (changed((*NUMERIC, "data"), [1e39, 0, 0, 0]), "1e+39 does not fit into FP32"),
    "fraction for a whole number": (changed((*CATEGORICAL, "data"), [1.5, 2]), "must be whole numbers, got 1.5"),
    "float for a whole number": (changed((*CATEGORICAL, "data"), [1.0, 2]), "must be whole numbers, got 1.0"),
    "null for a whole number": (changed((*CATEGORICAL, "data"), [None, 2]), "must be whole numbers, got None"),
    "whole number beyond INT64": (changed((*CATEGORICAL, "data"), [2**63, 0]), f"{2**63} does not fit into INT64"),
    "unknown output": (request(outputs=[{"name": "scores"}]), "no such output; it gives logit, score"),
    "output asked for twice": (request(outputs=[{"name": "score"}] * 2), "'score': asked for twice"),
    "outputs that are an object": (request(outputs={}), "outputs must be an array"),
    "output that is a string": (request(outputs=["score"]), "no such output"),
    "parameters that are a list": (request(parameters=[1]), "parameters must be an object"),
    "input's parameters that are text": (changed((*NUMERIC, "parameters"), "x"), "'numeric': parameters must be"),
    "binary flag that is a number": (request(parameters={"binary_data_output": 1}), "must be true or false"),
    "binary size without the header": (
        changed((*NUMERIC, "parameters"), {"binary_data_size": 16}),
        "'numeric': binary_data_size needs the header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_400_and_a_sentence(server, case):
    body, sentence = REFUSED[case]
    status, answer = server.infer(body)
    assert status == 400
    assert set(answer) == {"error"}
    assert sentence in answer["error"]
    assert len(answer["error"]) < 300


# Binary tensor data


def binary(numeric=None, categorical=None, *, sizes=(None, None), raw=None, header=None, **more):
    """Headers and body of a request whose inputs are raw bytes."""
    arrays = (
        np.array([[0.5, -1.0, 2.0, 0.25]] if numeric is None else numeric, "<f4"),
        np.array([[1, 7]] if categorical is None else categorical, "<i8"),
    )
    inputs = [
        {"name": name, "datatype": datatype, "shape": array.shape,
         "parameters": {"binary_data_size": array.nbytes if size is None else size}}
        for name, datatype, array, size in zip(NAMES, ("FP32", "INT64"), arrays, sizes, strict=True)
    ]  # fmt: skip
    text = json.dumps({"inputs": inputs, **more}).encode()
    tail = b"".join(array.tobytes() for array in arrays) if raw is None else raw
    return {"Inference-Header-Content-Length": str(len(text)) if header is None else header}, text + tail


def ask_binary(server, *arguments, **options):
    headers, body = binary(*arguments, **options)
    status, answered, answer = server.ask("POST", INFER, body, headers)
    size = int(answered.get("inference-header-content-length", len(answer)))
    return status, json.loads(answer[:size]), answer[size:]


def test_raw_inputs_are_answered_as_json_ones_are(server):
    status, answer, rest = ask_binary(server)
    assert (status, answer) == server.infer(request())
    assert rest == b""


def test_raw_inputs_may_stand_beside_json_ones(server):
    asked = request()
    del asked["inputs"][1]["data"]
    asked["inputs"][1]["parameters"] = {"binary_data_size": 16}
    text = json.dumps(asked).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, _, answer = server.ask("POST", INFER, text + np.array([1, 7], "<i8").tobytes(), headers)
    assert (status, json.loads(answer)) == server.infer(request())


def test_raw_nan_is_a_missing_number(server):
    raw = ask_binary(server, [[np.nan, 1, 2, 3]])
    assert raw[:2] == server.infer(changed((*NUMERIC, "data"), [None, 1.0, 2.0, 3.0]))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.4e38, 1e-45])
def test_raw_numbers_may_be_infinite(server, value):
    status, answer, _ = ask_binary(server, [[value, 1, 2, 3]])
    assert status == 200
    wanted = expected([[value, 1, 2, 3]], [[1, 7]])["score"]
    assert np.float32(answer["outputs"][1]["data"][0]) == wanted[0]


def test_outputs_come_raw_where_asked_for(server):
    wanted = expected([[0.5, -1, 2, 0.25]], [[1, 7]])
    status, answer, rest = ask_binary(server, parameters={"binary_data_output": True}, id="a")
    assert status == 200
    assert answer["id"] == "a"
    assert [one["parameters"]["binary_data_size"] for one in answer["outputs"]] == [4, 4]
    assert all("data" not in one for one in answer["outputs"])
    assert rest == wanted["logit"].tobytes() + wanted["score"].tobytes()


def test_one_output_raw_and_the_other_as_json(server):
    outputs = [{"name": "logit", "parameters": {"binary_data": True}}, {"name": "score"}]
    status, answer, rest = ask_binary(server, outputs=outputs)
    assert status == 200
    assert len(rest) == 4
    assert "data" in answer["outputs"][1]


def test_an_outputs_own_flag_beats_that_of_the_request(server):
    outputs = [{"name": "logit", "parameters": {"binary_data": False}}]
    status, answer, rest = ask_binary(server, outputs=outputs, parameters={"binary_data_output": True})
    assert status == 200
    assert len(answer["outputs"][0]["data"]) == 1
    assert rest == b""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"raw": b""}, "'numeric': binary_data_size must be at most the 0 bytes left, got 16"),
        ({"raw": bytes(31)}, "'categorical': binary_data_size must be at most the 15 bytes left"),
        ({"raw": bytes(33)}, "33 bytes follow the JSON, of which the inputs take 32"),
        ({"sizes": (12, None), "raw": bytes(28)}, "shape (1, 4) of FP32 takes 16 bytes, got 12"),
        ({"sizes": (-1, None)}, "binary_data_size must be at most"),
        ({"sizes": ("16", None)}, "binary_data_size must be at most"),
        ({"sizes": (True, None)}, "binary_data_size must be at most"),
        ({"sizes": (2**70, None)}, "binary_data_size"),
        ({"header": "-1"}, "Inference-Header-Content-Length must be a number"),
        ({"header": "99999"}, "Inference-Header-Content-Length must be a number"),
        ({"header": "1e2"}, "Inference-Header-Content-Length must be a number"),
        ({"header": "1_0"}, "Inference-Header-Content-Length must be a number"),
        ({"header": "0"}, "no JSON"),
    ],
)
def test_raw_bytes_that_do_not_add_up_are_refused(server, options, sentence):
    status, answer, _ = ask_binary(server, **options)
    assert status == 400
    assert sentence in answer["error"]


def test_header_with_all_of_the_body_is_plain_json(server):
    body = json.dumps(request()).encode()
    assert server.ask("POST", INFER, body, {"Inference-Header-Content-Length": str(len(body))})[0] == 200
