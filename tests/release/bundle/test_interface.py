"""What a model takes and gives, in the protocol's words."""

import json
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from ci_tools.errors import DataError
from ci_tools.release.bundle import interface
from ci_tools.release.bundle.interface import DATATYPES
from ci_tools.release.bundle.manifest import Decision, Tensor
from tests.release.bundle import toy

WHERE = Path("model.onnx")
ONNX = {
    "FLOAT": "FP32",
    "DOUBLE": "FP64",
    "FLOAT16": "FP16",
    "BOOL": "BOOL",
    "STRING": "BYTES",
    **{f"{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


def identity(kind, shape=("batch", 3)):
    """A graph that returns what it is given."""
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return made.SerializeToString()


def test_names_shapes_types_and_metadata_are_read():
    read = interface.read(toy.graph(seed=1).SerializeToString(), WHERE)
    assert read.inputs == (Tensor(name="rows", datatype="FP32", shape=(-1, 2)),)
    assert read.outputs == (Tensor(name="score", datatype="FP32", shape=(-1, 1)),)
    assert read.metadata == {"seed": "1"}


@pytest.mark.parametrize(("kind", "datatype"), ONNX.items())
def test_every_type_of_the_protocol_is_carried(kind, datatype):
    read = interface.read(identity(getattr(TensorProto, kind)), WHERE)
    assert read.inputs == (Tensor(name="x", datatype=datatype, shape=(-1, 3)),)
    assert sorted(ONNX.values()) == sorted(DATATYPES.values())


@pytest.mark.parametrize(("shape", "seen"), [((), ()), ((2, 3), (2, 3)), ((None, "n", 4), (-1, -1, 4))])
def test_free_axes_are_minus_one(shape, seen):
    assert interface.read(identity(TensorProto.FLOAT, shape), WHERE).inputs[0].shape == seen


def test_type_that_the_protocol_cannot_carry_is_refused():
    with pytest.raises(DataError, match="x is a tensor"):
        interface.read(identity(TensorProto.BFLOAT16), WHERE)


@pytest.mark.parametrize("content", [b"", b"nonsense", toy.graph().SerializeToString()[:-20]])
def test_model_that_the_runtime_refuses_is_told_in_one_line(content):
    with pytest.raises(DataError, match=r"model\.onnx: ONNX Runtime refuses it") as refused:
        interface.read(content, WHERE)
    assert "\n" not in str(refused.value)


def decided(given=None, **metadata):
    return interface.decision(interface.read(toy.graph(**metadata).SerializeToString(), WHERE), given, WHERE)


def test_decision_is_what_the_export_wrote():
    assert decided() is None
    assert decided(decision='{"output": "score", "threshold": 0.3}') == Decision(output="score", threshold=0.3)
    assert decided(decision='{"output": "score", "threshold": null}') is None


def test_decision_that_is_given_comes_first():
    given = Decision(output="score", threshold=0.5)
    assert decided(given, decision='{"output": "score", "threshold": 0.3}') == given


@pytest.mark.parametrize(
    "written",
    ["", "{}", "[]", "null", "0.5", "score", *(f'{{"output": "score", "threshold": {t}}}' for t in ("2", '"1"'))],
)
def test_decision_of_another_form_is_refused(written):
    with pytest.raises(DataError, match="of its decision"):
        decided(decision=written)


@pytest.mark.parametrize("output", ["label", "rows"])
def test_decision_by_no_output_is_refused(output):
    with pytest.raises(DataError, match="use one of score"):
        decided(decision=json.dumps({"output": output, "threshold": 0.5}))
