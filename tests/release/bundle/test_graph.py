"""A model is whole in its one file, wherever in the graph a tensor may hide."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from ci_tools.errors import DataError
from ci_tools.release.bundle import graph
from ci_tools.release.bundle.graph import NESTED, refuse_outside
from tests.release.bundle import toy

WHERE = Path("model.onnx")


def external(location="weights.bin"):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_node(**attributes):
    model = toy.graph()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], **attributes))
    return model


def with_initializer(tensor):
    model = toy.graph()
    model.graph.initializer.append(tensor)
    return model


def inner(tensor):
    return helper.make_graph([], "inner", [], [], [tensor])


def sparse(values=None, indices=None):
    whole = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    return onnx.SparseTensorProto(values=values or whole, indices=indices or whole, dims=[1])


def with_sparse_initializer():
    model = toy.graph()
    model.graph.sparse_initializer.append(sparse(values=external()))
    return model


def with_function(node):
    model = toy.graph()
    model.functions.append(helper.make_function("d", "f", [], [], [node], [helper.make_opsetid("", 20)]))
    return model


def with_training():
    model = toy.graph()
    model.training_info.add().algorithm.initializer.append(external())
    return model


def only_the_entry():
    tensor = external()
    tensor.ClearField("data_location")
    return tensor


def only_the_location():
    tensor = external()
    tensor.ClearField("external_data")
    return tensor


PLACES = {
    "initializer": with_initializer(external()),
    "path alone": with_initializer(only_the_entry()),
    "location alone": with_initializer(only_the_location()),
    "sparse initializer": with_sparse_initializer(),
    "attribute": with_node(value=external()),
    "attribute's list": with_node(values=[external()]),
    "attribute's graph": with_node(body=inner(external())),
    "attribute's graphs": with_node(bodies=[inner(external())]),
    "graph in a graph": with_node(
        body=helper.make_graph([helper.make_node("If", [], [], b=inner(external()))], "", [], [])
    ),
    "sparse attribute": with_node(sparse_value=sparse(indices=external())),
    "sparse attribute's list": with_node(sparse_values=[sparse(values=external())]),
    "function": with_function(helper.make_node("Constant", [], ["c"], value=external())),
    "training": with_training(),
}


@pytest.mark.parametrize("model", PLACES.values(), ids=PLACES)
def test_tensor_in_another_file_is_found(model):
    with pytest.raises(DataError, match=r"model\.onnx: keeps tensors in another file"):
        refuse_outside(model.SerializeToString(), WHERE)


def test_every_path_from_a_model_to_a_tensor_or_node_is_followed():
    """The table against the format's own description."""
    found, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.name not in found:
            found[kind.name] = {field.number: field.message_type for field in kind.fields if field.message_type}
            waiting += found[kind.name].values()
    leading = {"TensorProto", "NodeProto"}
    while more := {kind for kind, fields in found.items() if {one.name for one in fields.values()} & leading} - leading:
        leading |= more
    assert {
        kind: {number: one.name for number, one in found[kind].items() if one.name in leading} for kind in leading
    } == NESTED
    numbers = TensorProto.DESCRIPTOR.fields_by_name
    assert numbers["external_data"].number == graph.EXTERNAL_DATA
    assert numbers["data_location"].number == graph.DATA_LOCATION
    assert onnx.NodeProto.DESCRIPTOR.fields_by_name["op_type"].number == graph.OP_TYPE


def test_model_that_is_whole_is_accepted():
    refuse_outside(toy.graph(schema="x").SerializeToString(), WHERE)
    refuse_outside(with_function(helper.make_node("Constant", [], ["c"], value_float=1.0)).SerializeToString(), WHERE)


def test_node_that_reads_files_of_its_own_is_refused():
    model = toy.graph()
    model.graph.node.append(helper.make_node("EPContext", [], [], domain="com.microsoft", embed_mode=0))
    with pytest.raises(DataError, match="EPContext"):
        refuse_outside(model.SerializeToString(), WHERE)


def varint(value, length=1):
    """`value` in at least `length` bytes."""
    groups = [value >> shift & 0x7F for shift in range(0, max(7 * length, value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def message(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize(
    "location",
    [
        varint(14 << 3) + varint(1, 10),
        varint(14 << 3, 5) + varint(1),
        varint(14 << 3) + varint(0) + varint(14 << 3) + varint(1),
        varint(14 << 3) + varint(1 << 32 | 1),
        varint(1 << 32 | 14 << 3) + varint(1),
    ],
    ids=["long value", "long key", "said twice", "value beyond 32 bits", "key beyond 32 bits"],
)
def test_unusual_spelling_hides_nothing(location):
    with pytest.raises(DataError, match="another file"):
        refuse_outside(message(7, message(5, location)), WHERE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\xff" * 20,
        varint(7 << 3 | 2) + varint(100) + b"short",
        varint(7 << 3 | 2),
        varint(1 << 3 | 1) + b"1234567",
        varint(1 << 3 | 5) + b"123",
        varint(7 << 3 | 3),
        b"\x18\x00\x00\x00ORTM" + b"\x00" * 8,
        b"PK\x03\x04",
    ],
)
def test_bytes_that_are_no_onnx_file_are_refused(content):
    with pytest.raises(DataError, match="is no ONNX file"):
        refuse_outside(content, WHERE)


def test_deep_nesting_ends_in_no_recursion():
    content = b""
    for _ in range(2000):
        content = message(1, message(5, message(6, content)))  # node, attribute, graph
    refuse_outside(message(7, content), WHERE)
