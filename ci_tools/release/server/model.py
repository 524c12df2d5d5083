"""A bundle's graph in ONNX Runtime: checked when it is loaded, and at every answer.

N = rows. Shapes in a manifest have -1 where the graph leaves the length open.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from ci_tools.errors import DataError, DependencyUnavailable
from ci_tools.harmless import one_line
from ci_tools.release.bundle.manifest import MODEL, Manifest, Tensor
from ci_tools.release.server.refusal import Refusal, failed, invalid
from ci_tools.release.server.request import batched
from ci_tools.release.server.tensors import DTYPES, Array

_ELEMENT_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float": "FP32", "double": "FP64",
    "string": "BYTES",
}  # fmt: skip
"""The runtime's names of element types, as the protocol has them."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Model:
    """A loaded graph."""

    def __init__(self, graph: bytes, manifest: Manifest, *, device: str = "cpu", threads: int = 1) -> None:
        """Load a graph and try it on zeros.

        Raises:
            DataError: the graph is another than the manifest's, cannot be loaded, or has other inputs or outputs.
            DependencyUnavailable: there is no such device.
        """
        self.manifest = manifest
        self._session = _open(graph, device, threads)
        _compare("input", self._session.get_inputs(), manifest.inputs)
        _compare("output", self._session.get_outputs(), manifest.outputs)
        self._names = [tensor.name for tensor in manifest.outputs]
        self._batched = batched(manifest)
        self._decision = manifest.decision.output if manifest.decision else None
        self._try()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The graph's outputs, unchecked.

        Raises:
            Refusal: 500, the graph failed.
        """
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))
        except Exception as error:  # the runtime's classes have no common base
            raise failed(f"the model failed: {one_line(str(error))}") from None

    def complaint(self, outputs: Mapping[str, Array], rows: int) -> Refusal | None:
        """What is wrong with an answer: not finite, of another shape, or a decision outside of [0, 1]."""
        for tensor in self.manifest.outputs:
            array = outputs[tensor.name]
            if wrong := self._malformed(tensor, array, rows):
                return wrong
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                value = array[~np.isfinite(array)].flat[0]
                return invalid(f"output {tensor.name!r}: must be finite, got {value:.6g}")
        if self._decision is not None:
            array = outputs[self._decision]
            if array.size and (array.min() < 0 or array.max() > 1):
                value = array[(array < 0) | (array > 1)].flat[0]
                return invalid(f"output {self._decision!r}: must lie in [0, 1], got {value:.6g}")
        return None

    def scores(self, outputs: Mapping[str, Array]) -> list[float] | None:
        """The decision's output, one number per row; None where the manifest names no decision."""
        if self._decision is None:
            return None
        scores: list[float] = outputs[self._decision].reshape(-1).tolist()
        return scores

    def _malformed(self, tensor: Tensor, array: Array, rows: int) -> Refusal | None:
        free = (rows, *tensor.shape[1:]) if self._batched else tensor.shape
        if array.dtype != DTYPES[tensor.datatype]:
            return invalid(f"output {tensor.name!r}: must be {tensor.datatype}, got {array.dtype}")
        if len(array.shape) != len(free) or any(w not in (-1, n) for n, w in zip(array.shape, free, strict=True)):
            return invalid(f"output {tensor.name!r}: must have the shape {list(free)}, got {list(array.shape)}")
        return None

    def _try(self) -> None:
        """The first run also allocates what the later ones use."""
        zeros = {
            tensor.name: np.full([max(length, 1) for length in tensor.shape], _zero(tensor), DTYPES[tensor.datatype])
            for tensor in self.manifest.inputs
        }
        rule = "the model must answer a row of zeros as the manifest says"
        try:
            outputs = self.run(zeros)
        except Refusal as refusal:
            raise DataError(refusal.sentence, where=MODEL, rule=rule) from None
        for tensor in self.manifest.outputs:
            if wrong := self._malformed(tensor, outputs[tensor.name], 1):
                raise DataError(wrong.sentence, where=MODEL, rule=rule)
            one_value = math.prod(outputs[tensor.name].shape) == 1 and tensor.datatype.startswith("FP")
            if tensor.name == self._decision and self._batched and not one_value:
                raise DataError(f"output {tensor.name!r} is no decision", where=MODEL, rule="one number per row")


def _open(graph: bytes, device: str, threads: int) -> onnxruntime.InferenceSession:
    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        fix = "install onnxruntime-gpu, or use --device cpu"
        raise DependencyUnavailable(
            f"ONNX Runtime has no {_PROVIDERS[device]} here", where=f"--device {device}", fix=fix
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is told by exceptions
    providers = list(dict.fromkeys([_PROVIDERS[device], _PROVIDERS["cpu"]]))
    try:
        # From memory: a graph that refers to other files has none to refer to.
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # the runtime's classes have no common base
        raise DataError(f"cannot be loaded ({one_line(str(error))})", where=MODEL) from None


def _compare(kind: str, found: list[Any], promised: tuple[Tensor, ...]) -> None:
    rule = f"the graph's {kind}s must be those of the manifest"
    have = {
        one.name: (
            _ELEMENT_TYPES.get(one.type.removeprefix("tensor(").removesuffix(")"), one.type),
            tuple(length if isinstance(length, int) else -1 for length in one.shape),
        )
        for one in found
    }
    want = {tensor.name: (tensor.datatype, tensor.shape) for tensor in promised}
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            told = [f"{each[0]} {list(each[1])}" if each else "none" for each in (want.get(name), have.get(name))]
            raise DataError(f"{kind} {name!r} should be {told[0]}, the graph has {told[1]}", where=MODEL, rule=rule)


def _zero(tensor: Tensor) -> object:
    return "" if tensor.datatype == "BYTES" else 0
