"""Tensors of the Open Inference Protocol: JSON or raw bytes in, NumPy arrays out, and back.

JSON data is flat or nested, in row-major order. JSON knows no NaN: `null` stands for it in floating-point tensors, in
requests only. Raw bytes are little-endian, row-major and without gaps; each element of BYTES has its length before it,
as four bytes.
"""

import math
import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.release.server.refusal import bad, shown

Array = NDArray[Any]
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_ELEMENTS: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str}),
}
"""By NumPy's kind of dtype, the JSON elements that it may come from; bool is no int here."""
_WORDS = {"b": "true or false", "u": "whole numbers", "i": "whole numbers", "f": "numbers or null", "O": "strings"}


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """The array of a request's `data`.

    Law: from_json(n, d, a.shape, to_json(a)) == a, for finite a; as it does for a.tolist().

    Raises:
        Refusal: 400; names the input, the rule and the value.
    """
    flat = _flat(name, shape, data)
    dtype = DTYPES[datatype]
    if len(flat) != math.prod(shape):
        raise bad(f"input {name!r}: shape {shown(shape)} has {math.prod(shape)} elements, got {len(flat)}")
    if not set(map(type, flat)) <= _ELEMENTS[dtype.kind]:
        wrong = next(value for value in flat if type(value) not in _ELEMENTS[dtype.kind])
        raise bad(f"input {name!r}: {datatype} data must be {_WORDS[dtype.kind]}, got {shown(wrong)}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype)
    except OverflowError:
        raise bad(f"input {name!r}: {_beyond(flat, dtype)} does not fit into {datatype}") from None
    if dtype.kind == "f" and np.isinf(array).any():
        raise bad(f"input {name!r}: {flat[int(np.isinf(array).argmax())]!r} does not fit into {datatype}")
    return array.reshape(shape)


def _flat(name: str, shape: tuple[int, ...], data: object) -> list[Any]:
    """The elements, nested as the shape says or not at all."""
    if type(data) is not list:
        raise bad(f"input {name!r}: data must be an array, got {shown(data)}")
    if len(shape) < 2 or not data or type(data[0]) is not list:
        return data
    flat = data
    for axis, length in enumerate(shape[1:]):
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {length} or (axis == 0 and len(data) != shape[0]):
            raise bad(f"input {name!r}: nested data must have the shape {shown(shape)}, or be flat")
        flat = list(chain.from_iterable(flat))
    return flat


def _beyond(flat: list[int], dtype: np.dtype[Any]) -> str:
    limits = np.iinfo(dtype)
    return shown(next(value for value in flat if not limits.min <= value <= limits.max))


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Array:
    """The array of raw bytes; law: from_bytes(n, d, a.shape, to_bytes(a)) == a.

    Raises:
        Refusal: 400; names the input, the rule and the value.
    """
    dtype, count = DTYPES[datatype], math.prod(shape)
    if dtype.kind == "O":
        return _strings(name, count, data).reshape(shape)
    if len(data) != count * dtype.itemsize:
        rule = f"shape {shown(shape)} of {datatype} takes {count * dtype.itemsize} bytes"
        raise bad(f"input {name!r}: {rule}, got {len(data)}")
    if dtype.kind == "b" and (rest := data.strip(b"\0\1")):
        raise bad(f"input {name!r}: BOOL bytes must be 0 or 1, got {rest[0]}")
    # The copy is aligned and the runtime's own; the slice of a body is neither.
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _strings(name: str, count: int, data: bytes) -> Array:
    found: list[str] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise bad(f"input {name!r}: BYTES data ends inside of a length")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise bad(f"input {name!r}: BYTES data ends inside of an element of {length} bytes")
        try:
            found.append(data[at - length : at].decode())
        except UnicodeDecodeError:
            raise bad(f"input {name!r}: BYTES elements must be UTF-8, element {len(found)} is not") from None
    if len(found) != count:
        raise bad(f"input {name!r}: the shape has {count} elements, got {len(found)}")
    return np.array(found, object)


def to_json(array: Array) -> Array | list[Any]:
    """What orjson renders as a flat list: the shortest decimals that give the same bits back."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.tolist() if flat.dtype.kind == "O" else flat


def to_bytes(array: Array) -> bytes:
    """Raw bytes, as the binary tensor data extension has them."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = (str(value).encode() for value in array.reshape(-1))
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
