"""Small ONNX graphs in the shape of the reference model, sound or with a fault in them.

Inputs `numeric` FP32 [N, 4] (NaN: missing) and `categorical` INT64 [N, 2]; outputs `logit` and `score` FP32 [N].
Faults never show on a row of zeros, so that a server loads the graph and the traffic has to find them.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NUMERIC, CATEGORICAL, CODES = 4, 2, 8
FAULTS = ("", "nan", "garbage", "flips", "slow", "memory")


def risk(fault="", amount=0.0, *, seed=0, width=16):
    """The bytes of a graph.

    Args:
        fault: empty: none; `nan`: the logit of a share `amount` of the rows is NaN; `garbage`: the same rows score
            outside of [0, 1]; `flips`: the same rows score 1 − score; `slow`: a run takes `amount` matrix products of
            256 × 256 more; `memory`: a run allocates `amount` MB more.
        amount: see there.
        seed: of the weights.
        width: of the hidden layer.
    """
    assert fault in FAULTS
    random = np.random.default_rng(seed)
    graph = _Graph()
    zero = graph.constant("zero", np.float32(0))
    missing = graph.node("IsNaN", ["numeric"])
    seen = graph.node("Clip", [graph.node("Where", [missing, zero, "numeric"]), *graph.range(-10, 10, np.float32)])
    codes = graph.node("Clip", ["categorical", *graph.range(0, CODES - 1, np.int64)])
    table = graph.constant("table", random.normal(size=(CODES, 3)).astype(np.float32))
    flat = graph.constant("flat", np.array([-1, CATEGORICAL * 3]))
    embedded = graph.node("Reshape", [graph.node("Gather", [table, codes]), flat])
    joined = graph.node("Concat", [seen, embedded], axis=1)
    hidden_weight = graph.constant("w1", random.normal(size=(NUMERIC + CATEGORICAL * 3, width)).astype(np.float32))
    out_weight = graph.constant("w2", random.normal(size=(width, 1)).astype(np.float32) / width**0.5)
    hidden = graph.node("Relu", [graph.node("MatMul", [joined, hidden_weight])])
    squeezed = graph.node("Squeeze", [graph.node("MatMul", [hidden, out_weight]), graph.constant("one", np.array([1]))])
    if fault in ("slow", "memory"):
        graph.node("Add", [squeezed, getattr(graph, fault)(amount, seen)], out="logit")
        graph.node("Sigmoid", ["logit"], out="score")
    else:
        _outputs(graph, squeezed, seen, fault, amount)
    return graph.model().SerializeToString(deterministic=True)


def _outputs(graph, logit, seen, fault, share):
    """Logit and score, other for a share of the rows."""
    if fault == "nan":
        nan = graph.constant("nan", np.float32(np.nan))
        graph.node("Where", [graph.drawn(seen, share), nan, logit], out="logit")
        graph.node("Sigmoid", ["logit"], out="score")
        return
    graph.node("Identity", [logit], out="logit")
    score = graph.node("Sigmoid", [logit])
    if fault:
        one = graph.constant("unit", np.float32(1))
        wrong = graph.node("Sub", [one, score]) if fault == "flips" else graph.node("Add", [one, score])
        graph.node("Where", [graph.drawn(seen, share), wrong, score], out="score")
    else:
        graph.node("Identity", [score], out="score")


class _Graph:
    """Nodes in the making."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def range(self, low, high, dtype):
        return [self.constant(f"{kind}{len(self.constants)}", dtype(v)) for kind, v in (("low", low), ("high", high))]

    def node(self, kind, inputs, out="", **attributes):
        out = out or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def drawn(self, seen, share):
        """bool [N]: about that share of rows, by a hash of their numbers; none that is zero throughout."""
        summed = self.node("ReduceSum", [seen, self.constant("axis", np.array([1]))], keepdims=0)
        mixed = self.node("Mul", [self.node("Sin", [self.node("Mul", [summed, self.constant("m1", np.float32(91.7))])]),
                                  self.constant("m2", np.float32(4375.85))])  # fmt: skip
        fraction = self.node("Sub", [mixed, self.node("Floor", [mixed])])
        chosen = self.node("Less", [fraction, self.constant("share", np.float32(share))])
        return self.node("And", [chosen, self._any(seen)])

    def _any(self, seen):
        size = self.node("ReduceMax", [self.node("Abs", [seen]), self.constant("axis1", np.array([1]))], keepdims=0)
        return self.node("Greater", [size, self.constant("nothing", np.float32(0))])

    def _if_any(self, seen, count):
        """int64 [1]: `count` where any number of the batch is not zero, else 1."""
        flag = self.node("ReduceMax", [self.node("Cast", [self._any(seen)], to=TensorProto.INT64)], keepdims=0)
        scaled = self.node("Mul", [flag, self.constant("count", np.int64(count))])
        more = self.node("Max", [scaled, self.constant("least", np.int64(1))])
        return self.node("Reshape", [more, self.constant("vector", np.array([1]))])

    def memory(self, megabytes, seen):
        """A zero that took an array of that size."""
        filled = self.node("ConstantOfShape", [self._if_any(seen, megabytes * 250_000)])
        return self.node("ReduceMax", [self.node("Abs", [filled])], keepdims=0)

    def slow(self, products, seen):
        """A zero that took that many matrix products."""
        square = helper.make_tensor_value_info("square", TensorProto.FLOAT, [256, 256])
        next_square = helper.make_tensor_value_info("next_square", TensorProto.FLOAT, [256, 256])
        flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still_on")]
        trip = helper.make_tensor_value_info("trip", TensorProto.INT64, [])
        body = [helper.make_node("MatMul", ["square", "square"], ["next_square"]),
                helper.make_node("Identity", ["on"], ["still_on"])]  # fmt: skip
        loop = helper.make_graph(body, "products", [trip, flags[0], square], [flags[1], next_square])
        count = self.node("Squeeze", [self._if_any(seen, int(products))])
        start = self.constant("start", np.zeros((256, 256), np.float32))
        last = self.node("Loop", [count, self.constant("yes", np.array(True)), start], body=loop)
        return self.node("ReduceMax", [last], keepdims=0)

    def model(self):
        inputs = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", NUMERIC]),
                  helper.make_tensor_value_info("categorical", TensorProto.INT64, ["batch", CATEGORICAL])]  # fmt: skip
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("logit", "score")]
        graph = helper.make_graph(self.nodes, "risk", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model
