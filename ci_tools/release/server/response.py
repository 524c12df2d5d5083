"""Answers of the protocol, as bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ci_tools.release.bundle.manifest import Manifest, Tensor
from ci_tools.release.server.request import Request
from ci_tools.release.server.tensors import Array, to_bytes, to_json

Headers = list[tuple[str, str]]
LIVE = orjson.dumps({"live": True})
JSON = ("content-type", "application/json")


class Writer:
    """Writes the answers of one model, whose version is its bundle's digest."""

    def __init__(self, manifest: Manifest, digest: str) -> None:
        self._datatypes = {tensor.name: tensor.datatype for tensor in manifest.outputs}
        self._begin = {"model_name": manifest.name, "model_version": digest}

    def write(self, request: Request, outputs: Mapping[str, Array]) -> tuple[Headers, bytes]:
        """The response object; raw tensors behind it where the request asks for them."""
        told, raw = [], []
        for name, binary in request.outputs:
            array = outputs[name]
            one: dict[str, Any] = {"name": name, "datatype": self._datatypes[name], "shape": array.shape}
            if binary:
                raw.append(to_bytes(array))
                one["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                one["data"] = to_json(array)
            told.append(one)
        answer: dict[str, Any] = {**self._begin, "outputs": told}
        if request.id is not None:
            answer["id"] = request.id
        text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        if not raw:
            return [JSON], text
        headers = [("content-type", "application/octet-stream"), ("inference-header-content-length", str(len(text)))]
        return headers, b"".join((text, *raw))


def error(sentence: str) -> bytes:
    """The protocol's error object."""
    return orjson.dumps({"error": sentence})


def ready(yes: bool) -> bytes:
    """Of `GET /v2/health/ready`: the specification names the key `live` here, servers and clients say `ready`."""
    return orjson.dumps({"live": yes, "ready": yes})


def model_ready(name: str, yes: bool) -> bytes:
    """Of `GET /v2/models/NAME/ready`."""
    return orjson.dumps({"name": name, "ready": yes})


def server_metadata(version: str) -> bytes:
    """Of `GET /v2`."""
    return orjson.dumps({"name": "switchback", "version": version, "extensions": ["binary_tensor_data"]})


def model_metadata(manifest: Manifest, digest: str) -> bytes:
    """Of `GET /v2/models/NAME`."""
    return orjson.dumps(
        {
            "name": manifest.name,
            "versions": [digest],
            "platform": "onnxruntime_onnx",
            "inputs": _tensors(manifest.inputs),
            "outputs": _tensors(manifest.outputs),
        }
    )


def _tensors(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [tensor.model_dump() for tensor in tensors]
