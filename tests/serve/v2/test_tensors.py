"""Tensors in JSON and in bytes: what is taken is kept exactly, all else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partitioner.serve.failures import ProtocolError
from partitioner.serve.jsontext import dumps, loads
from partitioner.serve.v2.datatypes import DATATYPES, datatype_of, dtype_of, open_shape
from partitioner.serve.v2.responses import finite_array
from partitioner.serve.v2.tensors import from_bytes, from_json, shape_of, to_bytes

ARRAYS = st.sampled_from(sorted(DATATYPES.values())).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))
)


@given(ARRAYS, st.integers(0, 7))
def test_bytes_and_back(array: Any, offset: int) -> None:
    data = memoryview(b"\0" * offset + bytes(to_bytes(array)))[offset:]
    back = from_bytes("x", datatype_of(array.dtype.name), array.shape, data)
    np.testing.assert_array_equal(array, back, strict=True)
    assert back.flags.aligned


@given(ARRAYS, st.booleans())
def test_json_and_back(array: Any, nested: bool) -> None:
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
    plain = finite_array("x", array)
    data = loads(dumps(plain if nested or not array.shape else plain.reshape(-1)))
    datatype = datatype_of(array.dtype.name)
    if nested and 0 in array.shape:
        return  # nested lists do not say what follows an empty dimension
    back = from_json("x", datatype, array.shape, data)
    np.testing.assert_array_equal(array, back, strict=True)


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_strings_of_bytes(items: list[bytes]) -> None:
    data = b"".join(len(item).to_bytes(4, "little") + item for item in items)
    array = from_bytes("x", "BYTES", (len(items),), memoryview(data))
    assert items == array.tolist()


SCALARS = st.sampled_from([None, True, 0, 1, -1, 300, 2**63, -(2**70), 0.5, -1e300, float("nan")])
VALUES = st.recursive(
    SCALARS | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)
NAMES = st.sampled_from([*DATATYPES, "BYTES", "BF16", "fp32", ""])


@given(NAMES, VALUES | st.lists(st.integers(0, 2), max_size=3), VALUES)
def test_whatever_is_in_json_is_an_array_of_its_shape_or_refused(
    datatype: str, shape: Any, data: Any
) -> None:
    try:
        dims = shape_of("x", shape)
        array = from_json("x", datatype, dims, data)
    except ProtocolError:
        return
    assert dims == array.shape


SHAPES = st.lists(st.integers(-1, 4) | st.integers(2**31, 2**64), max_size=4)


@given(NAMES, SHAPES, st.binary(max_size=64))
def test_whatever_is_in_bytes_is_an_array_of_its_shape_or_refused(
    datatype: str, shape: list[int], data: bytes
) -> None:
    try:
        dims = shape_of("x", shape)
        array = from_bytes("x", datatype, dims, memoryview(data))
    except ProtocolError:
        return
    assert dims == array.shape


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [1], [True]),
        ("FP32", [1], ["1"]),
        ("FP32", [1], [1e39]),
        ("FP16", [1], [70000]),
        ("INT8", [1], [128]),
        ("UINT8", [1], [-1]),
        ("INT64", [1], [1.0]),
        ("INT64", [1], [2**63]),
        ("BOOL", [1], [1]),
        ("BYTES", [1], [1]),
        ("FP32", [2, 2], [[1, 2, 3, 4]]),
        ("FP32", [2, 2], [[1, 2], [3]]),
        ("FP32", [2, 2], [[1, 2], 3]),
        ("FP32", [4], [[1], [2], [3], [4]]),
        ("FP32", [], []),
        ("FP32", [1], 1),
    ],
)
def test_elements_that_are_refused(datatype: str, shape: list[int], data: Any) -> None:
    with pytest.raises(ProtocolError):
        from_json("x", datatype, shape_of("x", shape), data)


@pytest.mark.parametrize("shape", [None, 3, [1.0], [True], [-1], [1] * 33, [0, 2**63], [2**62, 2]])
def test_shapes_that_are_refused(shape: Any) -> None:
    with pytest.raises(ProtocolError):
        shape_of("x", shape)


def test_bools_in_bytes_are_0_or_1() -> None:
    with pytest.raises(ProtocolError, match="0 or 1"):
        from_bytes("x", "BOOL", (2,), memoryview(b"\x00\x02"))


def test_names_of_datatypes() -> None:
    assert ("int16", [-1, 3, -1]) == (dtype_of("INT16"), open_shape(("n", 3, None)))
    with pytest.raises(ProtocolError, match="'BF16' is not supported"):
        dtype_of("BF16")
