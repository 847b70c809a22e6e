"""Tensors as the protocol has them, in JSON and in bytes, to arrays and back.

Everything here comes from a stranger: sizes may lie, shapes may overflow, lists may be ragged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import numpy as np

from partitioner.serve.failures import ProtocolError
from partitioner.serve.v2.datatypes import BYTES, dtype_of

__all__ = ["MAX_RANK", "from_bytes", "from_json", "shape_of", "to_bytes"]

Array = np.ndarray[Any, Any]

#: NumPy 1 can hold no more dimensions.
MAX_RANK = 32

#: Elements of one tensor of BYTES; they are taken apart one by one.
MAX_ELEMENTS = 1 << 16

#: What a list in JSON may hold, by NumPy's kind of number.
_TYPES = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}


def shape_of(name: str, shape: object) -> tuple[int, ...]:
    """A shape out of JSON.

    Raises:
        ProtocolError: not a list of sizes, or of more elements than can be addressed.
    """
    if not isinstance(shape, list):
        raise ProtocolError(f"input {name!r}: shape must be a list of sizes")
    sizes = cast("list[object]", shape)
    if len(sizes) > MAX_RANK:
        raise ProtocolError(f"input {name!r}: more than {MAX_RANK} dimensions")
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ProtocolError(f"input {name!r}: sizes of a shape are integers from 0")
    dims = tuple(cast("list[int]", sizes))
    # NumPy counts the other dimensions of an empty array, too.
    if math.prod(dim or 1 for dim in dims) * 8 >= 1 << 63:
        raise ProtocolError(f"input {name!r}: the shape {list(dims)} is too large")
    return dims


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """The array of a tensor whose elements are in JSON, flat or nested as the shape is.

    Args:
        datatype: for BYTES the elements are strings; they become bytes, in UTF-8.

    Raises:
        ProtocolError: another number of elements than the shape's, ragged lists, elements of
            another type, or numbers that the datatype cannot hold.
    """
    flat = _flat(name, shape, data)
    if datatype == BYTES:
        if set(map(type, flat)) - {str}:
            raise ProtocolError(f"input {name!r}: elements of BYTES are strings in JSON")
        return _objects([cast(str, text).encode() for text in flat], shape)
    return _numbers(name, np.dtype(dtype_of(datatype)), flat).reshape(shape)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """The array of a tensor in binary form: little-endian, row-major; bytes with their lengths.

    Numbers are not copied where they are aligned; the array is read-only.

    Raises:
        ProtocolError: not as many bytes as shape and datatype need.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        if count > MAX_ELEMENTS:
            raise ProtocolError(f"input {name!r}: more than {MAX_ELEMENTS} elements of BYTES")
        return _objects(_elements(name, data, count), shape)
    dtype = np.dtype(dtype_of(datatype)).newbyteorder("<")
    if len(data) != count * dtype.itemsize:
        raise ProtocolError(
            f"input {name!r} has {len(data)} bytes, but {datatype}{list(shape)} has "
            f"{count * dtype.itemsize}"
        )
    if datatype == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise ProtocolError(f"input {name!r}: bytes of BOOL are 0 or 1")
    array = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def to_bytes(array: Array) -> memoryview:
    """The numbers of an array, little-endian and row-major; not copied where they are so."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return cast("Any", plain.reshape(-1).view(np.uint8)).data


def _flat(name: str, shape: tuple[int, ...], data: object) -> Sequence[object]:
    count = math.prod(shape)
    if not isinstance(data, list):
        if shape:
            raise ProtocolError(f"input {name!r}: data must be a list")
        return [data]
    items = cast("list[object]", data)
    nested = len(shape) > 1 and bool(items) and all(type(item) is list for item in items)
    if nested:
        items = _unnested(name, shape, items)
    if len(items) != count:
        raise ProtocolError(
            f"input {name!r} has {len(items)} elements, but the shape {list(shape)} has {count}"
        )
    return items


def _unnested(name: str, shape: tuple[int, ...], items: list[object]) -> list[object]:
    # The outer size is part of the count of elements, which is checked by the caller; but it
    # must not be made up by inner ones.
    if len(items) != shape[0]:
        raise ProtocolError(f"input {name!r}: data is not nested as the shape {list(shape)}")
    for size in shape[1:]:
        if any(type(item) is not list or len(cast("list[object]", item)) != size for item in items):
            raise ProtocolError(f"input {name!r}: data is not nested as the shape {list(shape)}")
        items = list(chain.from_iterable(cast("list[list[object]]", items)))
    return items


def _numbers(name: str, dtype: np.dtype[Any], flat: Sequence[object]) -> Array:
    if set(map(type, flat)) - _TYPES[dtype.kind]:
        raise ProtocolError(f"input {name!r}: data holds what is no {dtype.name}")
    # By the widest type of the kind: NumPy's versions differ in what they refuse by others.
    wide = {"i": np.int64, "u": np.uint64, "f": np.float64}.get(dtype.kind, dtype)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, wide)
            cast_ = array.astype(dtype)
    except OverflowError as error:
        raise _too_large(name, dtype) from error
    kept = np.isfinite(cast_).all() if dtype.kind == "f" else (cast_ == array).all()
    if not kept:
        raise _too_large(name, dtype)
    return cast_


def _too_large(name: str, dtype: np.dtype[Any]) -> ProtocolError:
    return ProtocolError(f"input {name!r}: some numbers are too large for {dtype.name}")


def _elements(name: str, data: memoryview, count: int) -> list[bytes]:
    """Elements of BYTES: each a length of four bytes, little-endian, and so many bytes."""
    found: list[bytes] = []
    offset = 0
    while offset < len(data) and len(found) < count:
        start = offset + 4
        offset = start + int.from_bytes(data[offset:start], "little")
        if offset > len(data) or start > len(data):
            raise ProtocolError(f"input {name!r}: an element of BYTES ends after the tensor")
        found.append(bytes(data[start:offset]))
    if len(found) != count or offset != len(data):
        raise ProtocolError(f"input {name!r}: BYTES do not hold the {count} elements of its shape")
    return found


def _objects(items: Sequence[object], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)
