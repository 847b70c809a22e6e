"""The protocol's names of datatypes."""

from __future__ import annotations

from collections.abc import Sequence

from partitioner.serve.failures import ProtocolError

__all__ = ["BYTES", "DATATYPES", "datatype_of", "dtype_of", "open_shape"]

#: Of elements that are strings of bytes; pictures come so.
BYTES = "BYTES"

#: datatype -> NumPy's name.
DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}

_NAMES = {dtype: datatype for datatype, dtype in DATATYPES.items()}


def datatype_of(dtype: str) -> str:
    """The datatype of a dtype of :data:`partitioner.specs.DTYPES` that arrays can have."""
    return _NAMES[dtype]


def dtype_of(datatype: str) -> str:
    """NumPy's name of a datatype of numbers.

    Raises:
        ProtocolError: there is none.
    """
    if datatype not in DATATYPES:
        raise ProtocolError(
            f"datatype {datatype!r} is not supported",
            advice=f"use one of {', '.join((*DATATYPES, BYTES))}",
        )
    return DATATYPES[datatype]


def open_shape(shape: Sequence[int | str | None]) -> list[int]:
    """A declared shape with -1 for sizes that are not fixed."""
    return [dim if isinstance(dim, int) else -1 for dim in shape]
