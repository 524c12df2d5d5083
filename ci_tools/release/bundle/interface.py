"""What a model takes and gives, as ONNX Runtime sees it, in the Open Inference Protocol's terms."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.errors import DataError, explain
from ci_tools.release.bundle.manifest import Datatype, Decision, Tensor

DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's types that the protocol can carry."""
METADATA = "decision"
"""Key of the ONNX file's metadata under which the export keeps output and threshold, as JSON."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """Of one model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    """What the export wrote into the ONNX file."""


def read(content: bytes, where: Path) -> Interface:
    """Load a model and ask it.

    Raises:
        DataError: ONNX Runtime refuses it, or it takes or gives what the protocol cannot carry.
        DependencyUnavailable: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise explain(error) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"ONNX Runtime refuses it ({why})", where=where, fix="export it again") from None
    return Interface(
        inputs=tuple(_tensor(one, where) for one in session.get_inputs()),
        outputs=tuple(_tensor(one, where) for one in session.get_outputs()),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def decision(interface: Interface, given: Decision | None, where: Path) -> Decision | None:
    """How a score becomes a decision: as given, else as the export wrote it into the file, else unknown.

    Raises:
        DataError: it names no floating-point output, or a threshold outside of [0, 1].
    """
    found = given or _written(interface.metadata.get(METADATA), where)
    if found is None:
        return None
    outputs = {tensor.name: tensor.datatype for tensor in interface.outputs}
    if not outputs.get(found.output, "").startswith("FP"):
        scores = [name for name, datatype in outputs.items() if datatype.startswith("FP")]
        rule = "decisions are made by a floating-point output"
        raise DataError(
            f"decides by {found.output!r}", where=where, rule=rule, fix=f"use one of {', '.join(scores) or 'none'}"
        )
    return found


def _written(text: str | None, where: Path) -> Decision | None:
    if text is None:
        return None
    try:
        raw = json.loads(text)
        # No threshold: the export found none that the model reaches what is wanted with.
        return None if raw["threshold"] is None else Decision.model_validate_json(text)
    except (ValueError, KeyError, TypeError):
        rule = f'its metadata holds {METADATA} as {{"output": NAME, "threshold": 0 to 1}}'
        raise DataError(f"says {text[:80]!r} of its decision", where=where, rule=rule, fix="export it again") from None


def _tensor(spec: Any, where: Path) -> Tensor:
    datatype = DATATYPES.get(spec.type)
    if datatype is None:
        rule = "the Open Inference Protocol carries tensors of numbers, booleans and strings"
        raise DataError(f"{spec.name} is a {spec.type}", where=where, rule=rule, fix="convert it inside the graph")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in spec.shape)
    return Tensor(name=spec.name, datatype=datatype, shape=shape)
