"""An inference request of the protocol, read and checked against what the model takes."""

from dataclasses import dataclass
from typing import Any

import orjson

from ci_tools.release.bundle.manifest import Manifest, Tensor
from ci_tools.release.server.refusal import bad, shown
from ci_tools.release.server.tensors import Array, from_bytes, from_json

HEADER = "inference-header-content-length"
"""Header of the binary tensor data extension: how many bytes of the body are JSON."""


@dataclass(frozen=True, slots=True)
class Request:
    """One inference request."""

    id: str | None
    """As the client gave it; none of the server's business but to return it."""
    inputs: dict[str, Array]
    rows: int
    """Length of the batch axis; 0 where the model has none."""
    outputs: tuple[tuple[str, bool], ...]
    """Names of the outputs to return, and whether as raw bytes."""


class Reader:
    """Reads requests for one model."""

    def __init__(self, manifest: Manifest) -> None:
        self._inputs = {tensor.name: tensor for tensor in manifest.inputs}
        self._outputs = tuple(tensor.name for tensor in manifest.outputs)
        self._all_json = tuple((name, False) for name in self._outputs)
        self.batched = batched(manifest)

    def read(self, body: bytes, json_bytes: str | None = None) -> Request:
        """Parse a body.

        Args:
            body: JSON, and raw tensors behind it where the header is there.
            json_bytes: value of the header `HEADER`.

        Raises:
            Refusal: 400; names the input, the rule and the value.
        """
        text, raw = _split(body, json_bytes)
        try:
            asked = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise bad(f"the body is no JSON: {error}") from None
        if type(asked) is not dict:
            raise bad(f"the body must be an object, got {shown(asked)}")
        identity = asked.get("id")
        if identity is not None and type(identity) is not str:
            raise bad(f"id must be a string, got {shown(identity)}")
        parameters = _parameters(asked, "the request")
        inputs = self._read_inputs(asked.get("inputs"), raw)
        outputs = self._read_outputs(asked.get("outputs"), parameters)
        return Request(identity, inputs, self._rows(inputs), outputs)

    def _read_inputs(self, given: object, raw: bytes | None) -> dict[str, Array]:
        if type(given) is not list:
            raise bad(f"inputs must be an array of tensors, got {shown(given)}")
        found: dict[str, Array] = {}
        at = 0
        for one in given:
            if type(one) is not dict:
                raise bad(f"inputs must be an array of tensors, got {shown(one)} in it")
            name = one.get("name")
            tensor = self._inputs.get(name) if type(name) is str else None
            if tensor is None:
                raise bad(f"input {shown(name)}: the model has no such input; it takes {', '.join(self._inputs)}")
            if tensor.name in found:
                raise bad(f"input {tensor.name!r}: given twice")
            shape = _shape(one, tensor)
            size = _parameters(one, f"input {tensor.name!r}").get("binary_data_size")
            if size is None:
                if "data" not in one:
                    raise bad(f"input {tensor.name!r}: data is missing")
                found[tensor.name] = from_json(tensor.name, tensor.datatype, shape, one["data"])
            else:
                chunk = _chunk(tensor.name, size, raw, at)
                at += len(chunk)
                found[tensor.name] = from_bytes(tensor.name, tensor.datatype, shape, chunk)
        if raw is not None and at != len(raw):
            raise bad(f"{len(raw)} bytes follow the JSON, of which the inputs take {at}")
        if len(found) < len(self._inputs):
            raise bad(f"input {next(name for name in self._inputs if name not in found)!r}: missing")
        return found

    def _rows(self, inputs: dict[str, Array]) -> int:
        if not self.batched:
            return 0
        (first, array), *others = inputs.items()
        rows = len(array)
        for name, other in others:
            if len(other) != rows:
                raise bad(f"input {name!r}: has {len(other)} rows, and input {first!r} has {rows}")
        return rows

    def _read_outputs(self, given: object, parameters: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
        binary = _flag(parameters, "binary_data_output", "the request", False)
        if given is None or given == []:
            return tuple((name, True) for name in self._outputs) if binary else self._all_json
        if type(given) is not list:
            raise bad(f"outputs must be an array, got {shown(given)}")
        found: dict[str, bool] = {}
        for one in given:
            name = one.get("name") if type(one) is dict else None
            if type(name) is not str or name not in self._outputs:
                raise bad(f"output {shown(name)}: the model has no such output; it gives {', '.join(self._outputs)}")
            if name in found:
                raise bad(f"output {name!r}: asked for twice")
            found[name] = _flag(_parameters(one, f"output {name!r}"), "binary_data", f"output {name!r}", binary)
        return tuple(found.items())


def batched(manifest: Manifest) -> bool:
    """Whether every input and output has a free first axis: then rows of several requests may run together."""
    tensors = (*manifest.inputs, *manifest.outputs)
    return all(tensor.shape[:1] == (-1,) for tensor in tensors)


def _split(body: bytes, json_bytes: str | None) -> tuple[bytes, bytes | None]:
    if json_bytes is None:
        return body, None
    # `isdecimal` alone takes digits of other scripts, and int() takes spaces, signs and underscores.
    if not (json_bytes.isascii() and json_bytes.isdecimal() and len(json_bytes) < 20 and int(json_bytes) <= len(body)):
        rule = f"must be a number of bytes of the body, which has {len(body)}"
        raise bad(f"header Inference-Header-Content-Length {rule}, got {shown(json_bytes)}")
    size = int(json_bytes)
    return body[:size], body[size:]


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    """Parameters that the server does not know belong to extensions that it does not have, and are passed over."""
    found = holder.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise bad(f"{where}: parameters must be an object, got {shown(found)}")
    return found


def _flag(parameters: dict[str, Any], key: str, where: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise bad(f"{where}: {key} must be true or false, got {shown(value)}")
    return value


def _shape(given: dict[str, Any], tensor: Tensor) -> tuple[int, ...]:
    datatype, shape = given.get("datatype"), given.get("shape")
    if datatype != tensor.datatype:
        raise bad(f"input {tensor.name!r}: datatype must be {tensor.datatype}, got {shown(datatype)}")
    if type(shape) is not list or not set(map(type, shape)) <= {int}:
        raise bad(f"input {tensor.name!r}: shape must be an array of whole numbers, got {shown(shape)}")
    found = tuple(shape)
    # The usual case, told without a loop: rows of the manifest's width.
    if tensor.shape[:1] == (-1,) and found[1:] == tensor.shape[1:] and found[:1] > (0,) and -1 not in found:
        return found
    if len(found) != len(tensor.shape) or any(
        length < 1 if want == -1 else length != want for length, want in zip(found, tensor.shape, strict=True)
    ):
        rule = f"must be {list(tensor.shape)}" + (" with -1 for any length from 1" if -1 in tensor.shape else "")
        raise bad(f"input {tensor.name!r}: shape {rule}, got {shown(shape)}")
    return found


def _chunk(name: str, size: object, raw: bytes | None, at: int) -> bytes:
    if raw is None:
        raise bad(f"input {name!r}: binary_data_size needs the header Inference-Header-Content-Length")
    if type(size) is not int or not 0 <= size <= len(raw) - at:
        raise bad(f"input {name!r}: binary_data_size must be at most the {len(raw) - at} bytes left, got {shown(size)}")
    return raw[at : at + size]
