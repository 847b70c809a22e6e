"""Fields of a request as inputs of a model.

A string is never handed on: the runtime would take it for a file's path.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy

from partitioner.serve.failures import ProtocolError
from partitioner.serve.pictures import decode_picture
from partitioner.serve.v2.datatypes import datatype_of
from partitioner.serve.v2.tensors import MAX_RANK, from_json
from partitioner.specs import Image, InputSpec

__all__ = ["to_input"]

Array = np.ndarray[Any, Any]


def to_input(spec: InputSpec, value: Any, most: int) -> Any:
    """An array or a Pillow image.

    Args:
        value: of a picture, a file's bytes or its base64 (a ``data:`` URL, too); of numbers, a
            number, nested lists, or the bytes of an ``.npy`` file.
        most: pixels of a picture.

    Raises:
        ProtocolError: nothing of these.
        MissingDependencyError: Pillow is not installed.
    """
    image = isinstance(spec.how, Image)
    if isinstance(value, str) and image:
        value = _base64(spec.name, value)
    if isinstance(value, bytes):
        if image:
            return decode_picture(spec.name, value, most)
        return _npy(spec.name, value)
    shape = _shape(value)
    return from_json(spec.name, datatype_of(spec.tensor.dtype), shape, value)


def _base64(name: str, text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolError(
            f"input {name!r} is a string, but no base64: {error}",
            advice="give a picture's file in base64",
        ) from error


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of nested lists, by their first elements."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < MAX_RANK:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _npy(name: str, data: bytes) -> Array:
    """The array of an ``.npy`` file. NumPy's own reader believes the header's shape."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        read = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = read(file)
        if dtype.kind not in "biuf" or len(shape) > MAX_RANK:
            raise ValueError(f"an array of {dtype}, of {len(shape)} dimensions")
        if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
            raise ValueError("its shape is not that of what follows")
        array = np.frombuffer(data, dtype, offset=file.tell()) if math.prod(shape) else np.empty(0)
        return array.astype(dtype.newbyteorder("=")).reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, SyntaxError, EOFError) as error:
        raise ProtocolError(
            f"input {name!r} is no .npy file that can be read: {error}",
            advice="write it by numpy.save",
        ) from error
