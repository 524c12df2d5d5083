import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ci_tools.errors import DataError
from ci_tools.release.bundle.manifest import Tensor
from ci_tools.release.server.model import Model
from ci_tools.release.server.request import Reader
from tests.release import graphs
from tests.release.server.bundles import described


def rows(count, seed=0):
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(count, 4)).astype(np.float32)
    return {"numeric": numeric, "categorical": random.integers(0, 8, (count, 2))}


def graph_of(kind, inputs, outputs, **attributes):
    """A graph of one node."""
    infos = [
        [helper.make_tensor_value_info(name, datatype, shape) for name, datatype, shape in tensors]
        for tensors in (inputs, outputs)
    ]
    node = helper.make_node(kind, [one[0] for one in inputs], [one[0] for one in outputs], **attributes)
    graph = helper.make_graph([node], "g", *infos)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_graph_of_the_manifest_is_loaded_and_answers():
    graph = graphs.risk()
    model = Model(graph, described(graph))
    outputs = model.run(rows(5))
    assert model.complaint(outputs, 5) is None
    assert model.scores(outputs) == outputs["score"].tolist()


@pytest.mark.parametrize(
    ("key", "tensors", "sentence"),
    [
        (
            "inputs",
            {"numeric": ("FP32", (-1, 5))},
            r"input 'numeric' should be FP32 \[-1, 5\], the graph has FP32 \[-1, 4\]",
        ),
        ("inputs", {"numeric": ("FP64", (-1, 4))}, "input 'numeric' should be FP64"),
        ("inputs", {"numeric": ("FP32", (1, 4))}, r"should be FP32 \[1, 4\]"),
        ("inputs", {"more": ("FP32", (-1, 4))}, "input 'more' should be FP32 .*, the graph has none"),
        ("outputs", {"score": ("FP32", (-1, 1))}, "output 'score' should be"),
    ],
)
def test_manifest_of_another_graph_is_refused(key, tensors, sentence):
    graph = graphs.risk()
    manifest = described(graph)
    have = {one.name: one for one in getattr(manifest, key)}
    have |= {name: Tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape) in tensors.items()}
    with pytest.raises(DataError, match=sentence):
        Model(graph, manifest.model_copy(update={key: tuple(have.values())}))


def test_input_that_the_manifest_does_not_name_is_refused():
    graph = graphs.risk()
    manifest = described(graph)
    with pytest.raises(DataError, match="'categorical' should be none"):
        Model(graph, manifest.model_copy(update={"inputs": manifest.inputs[:1]}))


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(DataError, match="cannot be loaded"):
        Model(b"no graph", described(graphs.risk()))


def test_graph_that_does_not_give_one_answer_per_row_is_refused():
    graph = graph_of(
        "ReduceMean", [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["m", 1])], keepdims=1
    )
    Model(graph, described(graph, decision=None))  # one row in, one out: it cannot be told yet
    graph = graph_of("Concat", [("x", TensorProto.FLOAT, ["n"]), ("z", TensorProto.FLOAT, ["n"])],
                     [("y", TensorProto.FLOAT, ["m"])], axis=0)  # fmt: skip
    with pytest.raises(DataError, match=r"output 'y': must have the shape \[1\], got \[2\]"):
        Model(graph, described(graph, decision=None))


def test_decision_of_several_numbers_per_row_is_refused():
    graph = graph_of("Sigmoid", [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["n", 2])])
    with pytest.raises(DataError, match="one number per row"):
        Model(graph, described(graph, decision="y"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"score": np.array([0.5, 1.01], np.float32)}, r"output 'score': must lie in \[0, 1\], got 1.01"),
        ({"score": np.array([-0.01, 1], np.float32)}, r"must lie in \[0, 1\], got -0.01"),
        ({"logit": np.array([np.inf, 0], np.float32)}, "output 'logit': must be finite, got inf"),
        ({"score": np.array([0.5], np.float32)}, r"output 'score': must have the shape \[2\], got \[1\]"),
        ({"score": np.array([0.5, 0.5])}, "output 'score': must be FP32, got float64"),
    ],
)
def test_answer_that_breaks_the_manifest_is_named(change, sentence):
    graph = graphs.risk()
    model = Model(graph, described(graph))
    complaint = model.complaint(model.run(rows(2)) | change, 2)
    assert complaint is not None
    assert (complaint.status, complaint.headers) == (500, (("x-switchback-event", "invalid_outputs"),))
    assert re.search(sentence, complaint.sentence)


@pytest.mark.parametrize("width", [16, 256])
def test_rows_of_a_batch_get_what_they_get_alone(width):
    # To the last bits only: matrix products of other sizes may add in another order.
    graph = graphs.risk(width=width)
    model, inputs = Model(graph, described(graph)), rows(200)
    together = model.run(inputs)
    for i in range(0, 200, 7):
        alone = model.run({name: array[i : i + 1] for name, array in inputs.items()})
        for name, array in alone.items():
            np.testing.assert_allclose(array[0], together[name][i], rtol=2e-5, atol=2e-6)


def test_strings_go_through_the_graph_and_back():
    graph = graph_of("Identity", [("x", TensorProto.STRING, ["n", 2])], [("y", TensorProto.STRING, ["n", 2])])
    manifest = described(graph, decision=None)
    body = b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "\xc3\xa9"]}]}'
    outputs = Model(graph, manifest).run(Reader(manifest).read(body).inputs)
    assert outputs["y"].tolist() == [["a", "é"]]


def test_model_without_a_batch_axis_takes_its_own_shape():
    graph = graph_of("Relu", [("x", TensorProto.FLOAT, [3])], [("y", TensorProto.FLOAT, [3])])
    manifest = described(graph, decision=None)
    reader = Reader(manifest)
    assert not reader.batched
    asked = reader.read(b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, -2, 3]}]}')
    assert asked.rows == 0
    model = Model(graph, manifest)
    outputs = model.run(asked.inputs)
    assert outputs["y"].tolist() == [1, 0, 3]
    assert model.complaint(outputs, 0) is None


def test_planted_faults_leave_a_valid_graph_whose_zeros_are_sound():
    for fault in graphs.FAULTS:
        graph = graphs.risk(fault, 2)
        onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
        Model(graph, described(graph))
