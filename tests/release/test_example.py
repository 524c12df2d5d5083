"""The request of docs/serve.md is one that the reference model answers, as it stands there."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model.params import Simulated
from model.rolling import simulated_frame
from tests.release.server import bundles
from tests.release.server.running import serving

GUIDE = Path(__file__).parents[2] / "docs/serve.md"


@pytest.fixture(scope="module")
def command():
    """As a shell takes it apart."""
    text = GUIDE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(curl .*?/infer .*?)^```", text, re.MULTILINE | re.DOTALL)
    return shlex.split(block.replace("\\\n", " "))


@pytest.fixture(scope="module")
def columns():
    """Numeric and categorical, of the reference model."""
    frame = simulated_frame(Simulated(transactions=1000, customers=50, terminals=20, days=60))
    return len(frame.numeric), len(frame.categorical)


def test_example_has_the_columns_of_the_reference_model(command, columns):
    sent = json.loads(command[command.index("-d") + 1])
    shapes = {one["name"]: (one["datatype"], one["shape"], np.shape(one["data"])) for one in sent["inputs"]}
    numeric, categorical = columns
    assert shapes == {
        "numeric": ("FP32", [1, numeric], (numeric,)),
        "categorical": ("INT64", [1, categorical], (categorical,)),
    }


def graph(numeric, categorical):
    """A model with the reference model's inputs."""
    rows = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", numeric]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["batch", categorical])]  # fmt: skip
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["seen"]),
        helper.make_node("ReduceMean", ["seen", "axes"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["categorical"], ["codes"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["codes", "axes"], ["code"], keepdims=0),
        helper.make_node("Sub", ["code", "mean"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    made = helper.make_model(helper.make_graph(nodes, "fraud", rows, [score], [zero, axes]), ir_version=10,
                             opset_imports=[helper.make_opsetid("", 20)])  # fmt: skip
    onnx.checker.check_model(made)
    return made.SerializeToString()


def test_example_is_answered(tmp_path, command, columns):
    with serving(bundles.pack(tmp_path, graph(*columns), name="fraud")) as server:
        here = [word.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}") for word in command]
        done = subprocess.run([*here, "--fail-with-body"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        (output,) = json.loads(done.stdout)["outputs"]
    assert (output["name"], len(output["data"])) == ("score", 1)
