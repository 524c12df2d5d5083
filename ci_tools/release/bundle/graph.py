"""What in an ONNX file would have its reader open other files. Looks at the bytes, so it needs no ONNX package.

An ONNX file is a protobuf message: fields, each with a number and a wire type, of which type 2 holds bytes and nested
messages. Only what may lead to a tensor or a node is followed.
https://protobuf.dev/programming-guides/encoding/, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterator
from pathlib import Path

from ci_tools.errors import DataError

NESTED: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""By message and field: messages that may lead to a tensor or a node."""
EXTERNAL_DATA, DATA_LOCATION, OP_TYPE = 13, 14, 4
_EXTERNAL = 1
_FOREIGN = b"EPContext"
"""Operator of ONNX Runtime whose compiled part may stand in a file that it names."""
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FLATBUFFER = b"ORTM"
"""At byte 4 of the other format that ONNX Runtime takes, whatever a file is called."""
_LONGEST_VARINT = 10
_32_BITS = 0xFFFFFFFF
"""What readers keep of a key or an enum, however many bits were written."""


def refuse_outside(content: bytes, where: Path) -> None:
    """Refuse a model that is not whole in its one file.

    Raises:
        DataError: it is no ONNX file, or a tensor or node of it reads another one.
    """
    if not content or content[4:8] == _FLATBUFFER:
        raise DataError("is no ONNX file", where=where, rule="a protobuf message", fix="export it again")
    # A stack rather than recursion: nesting is the sender's choice.
    waiting = [("ModelProto", memoryview(content))]
    try:
        while waiting:
            kind, message = waiting.pop()
            nested = NESTED[kind]
            for field, value in fields(message):
                if kind == "TensorProto":
                    _refuse_external(field, value, where)
                elif kind == "NodeProto" and field == OP_TYPE and _is(value, _FOREIGN):
                    raise DataError("has a node of type EPContext", where=where, rule="it may read files of its own")
                if field in nested and isinstance(value, memoryview):
                    waiting.append((nested[field], value))
    except (ValueError, IndexError):
        raise DataError("is no ONNX file, or a damaged one", where=where, fix="export it again") from None


def _refuse_external(field: int, value: int | memoryview, where: Path) -> None:
    if (field == EXTERNAL_DATA and isinstance(value, memoryview)) or (field == DATA_LOCATION and value == _EXTERNAL):
        rule = "a bundle's model has all its tensors in its own file"
        fix = "save it with `save_as_external_data=False`"
        raise DataError("keeps tensors in another file", where=where, rule=rule, fix=fix)


def _is(value: int | memoryview, content: bytes) -> bool:
    return isinstance(value, memoryview) and value.tobytes() == content


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; those of a fixed width, which hold nothing that is looked for, are left out.

    Raises:
        ValueError, IndexError: the bytes are no message.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        key &= _32_BITS
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(message, at)
            yield field, number & _32_BITS
        elif wire == _BYTES:
            length, at = _varint(message, at)
            if length > end - at:
                raise ValueError("a field reaches beyond its message")
            yield field, message[at : at + length]
            at += length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
            if at > end:
                raise ValueError("a field reaches beyond its message")
        else:
            raise ValueError("no wire type of ONNX")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer in groups of seven bits, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer without an end")
