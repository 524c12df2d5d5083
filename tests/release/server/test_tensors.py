import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ci_tools.release.server.refusal import Refusal, shown
from ci_tools.release.server.tensors import DTYPES, from_bytes, from_json, to_bytes, to_json

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
NUMBERS = [name for name in DTYPES if name != "BYTES"]


def tensor(datatype):
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return arrays.arrays(DTYPES[datatype], SHAPES, elements=arrays.from_dtype(DTYPES[datatype], **finite))


def over_the_wire(data):
    return orjson.loads(orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
def test_numbers_come_back_bit_by_bit_flat_nested_and_raw(datatype, data):
    array = data.draw(tensor(datatype))
    for back in (
        from_json("x", datatype, array.shape, over_the_wire(to_json(array))),
        from_json("x", datatype, array.shape, over_the_wire(array.tolist())),
        from_bytes("x", datatype, array.shape, to_bytes(array)),
    ):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()


@given(array=arrays.arrays(object, SHAPES, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_strings_come_back_as_they_were(array):
    for back in (
        from_json("x", "BYTES", array.shape, over_the_wire(to_json(array))),
        from_bytes("x", "BYTES", array.shape, to_bytes(array)),
    ):
        assert np.array_equal(back, array)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_nan_of_a_floating_tensor(datatype):
    array = from_json("x", datatype, (2,), [None, 1.5])
    assert math.isnan(array[0])
    assert array[1] == 1.5


@pytest.mark.parametrize("datatype", [name for name in NUMBERS if "INT" in name])
def test_whole_numbers_are_taken_to_their_limits_and_not_beyond(datatype):
    limits = np.iinfo(DTYPES[datatype])
    assert from_json("x", datatype, (2,), [limits.min, limits.max]).tolist() == [limits.min, limits.max]
    for beyond in (limits.min - 1, limits.max + 1):
        with pytest.raises(Refusal, match=f"input 'x': {beyond} does not fit into {datatype}"):
            from_json("x", datatype, (2,), [0, beyond])


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 65520.0), ("FP32", 3.5e38), ("FP16", -1e9)])
def test_numbers_that_would_become_infinite_are_refused(datatype, value):
    with pytest.raises(Refusal, match="does not fit into"):
        from_json("x", datatype, (1,), [value])


@pytest.mark.parametrize(
    ("datatype", "data", "sentence"),
    [
        ("BOOL", b"\1\2", "BOOL bytes must be 0 or 1, got 2"),
        ("BYTES", b"\1\0\0", "ends inside of a length"),
        ("BYTES", b"\5\0\0\0abc", "ends inside of an element of 5 bytes"),
        ("BYTES", b"\xff\xff\xff\xff", "ends inside of an element of 4294967295 bytes"),
        ("BYTES", b"\1\0\0\0\xff\0\0\0\0", "must be UTF-8, element 0 is not"),
        ("BYTES", b"\0\0\0\0", "the shape has 2 elements, got 1"),
        ("INT16", bytes(3), "takes 4 bytes, got 3"),
    ],
)
def test_raw_bytes_that_are_no_tensor_are_refused(datatype, data, sentence):
    with pytest.raises(Refusal, match=sentence):
        from_bytes("x", datatype, (2,), data)


def test_one_long_string_among_many_numbers_takes_no_more_memory_than_it_has():
    # As an array of strings, each of the numbers would get as much room as the longest.
    with pytest.raises(Refusal, match="must be numbers or null, got 'aaa"):
        from_json("x", "FP32", (100_001,), ["a" * 1_000_000] + [1.0] * 100_000)


@pytest.mark.parametrize(
    "value", ["a" * 10_000, ["a"] * 10_000, {str(i): i for i in range(10_000)}, "::x::", -(10**5000)], ids=range(5)
)
def test_quoted_values_are_short(value):
    assert len(shown(value)) <= 60
