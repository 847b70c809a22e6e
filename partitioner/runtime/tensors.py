"""Turn what a caller gives into an array of the dtype and shape that an input declares.

What is accepted where another dtype is declared, because no information of the caller's is lost:

- Python numbers and lists of them, by the rules below for the arrays that NumPy makes of them;
- any float array for a float input (float64 for float32 among them): the pipeline's precision is
  the pipeline's choice; finite numbers must stay finite;
- integers and bools for a float input up to where floats stop holding every integer (2**24 in
  float32), and integers for another integer type or bool where the values fit.

A float array for an integer input is refused. NaN and infinities are let through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from partitioner.errors import InputError
from partitioner.specs import TensorSpec

__all__ = ["Array", "as_array", "to_tensor"]

Array = np.ndarray[Any, Any]

#: How NumPy makes arrays of what is none, in the order in which it looks.
_OWN_WAYS = ("__array_interface__", "__array_struct__", "__array__")


def to_tensor(name: str, value: Any, spec: TensorSpec, dims: dict[str, int]) -> Array:
    """A C-contiguous array of the declared dtype and shape; the caller's own where it fits.

    Args:
        name: of the input, for messages.
        value: as of :func:`as_array`.
        dims: sizes of symbolic dimensions found so far; added to.

    Raises:
        InputError: it is not an array of numbers, or of another dtype or shape.
    """
    array = _as_array(name, value, spec)
    _check_shape(name, array.shape, spec, dims)
    return np.asarray(_cast(name, array, spec), order="C")


def as_array(value: Any) -> Array:
    """What a caller gives, as NumPy has it; not copied where it lies in this host's memory.

    Args:
        value: an array; what has ``__array_interface__``, ``__array__`` or a buffer (tensors of
            torch and arrays of JAX among them); what has only ``__dlpack__``; a Python number, or
            lists of numbers.

    Raises:
        ValueError, TypeError, RuntimeError, BufferError: it cannot be made an array: lists of
            different lengths, a tensor on a device or one that needs a gradient.
    """
    if not hasattr(value, "__dlpack__") or any(hasattr(value, way) for way in _OWN_WAYS):
        return np.asarray(value)
    return np.from_dlpack(value)


def _as_array(name: str, value: Any, spec: TensorSpec) -> Array:
    try:
        array = as_array(value)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise InputError(
            f"input {name!r} cannot be made an array: {error}",
            advice=f"give {spec}, in the memory of this host",
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"input {name!r} is {type(value).__name__} of dtype {array.dtype}, but must be {spec}",
            advice="give an array of numbers",
        )
    return array


def _check_shape(name: str, shape: tuple[int, ...], spec: TensorSpec, dims: dict[str, int]) -> None:
    if len(shape) != len(spec.shape):
        raise _wrong_shape(name, shape, spec)
    for have, want in zip(shape, spec.shape, strict=True):
        size = dims.setdefault(want, have) if isinstance(want, str) else want
        if size is not None and size != have:
            raise _wrong_shape(name, shape, spec)


def _wrong_shape(name: str, shape: tuple[int, ...], spec: TensorSpec) -> InputError:
    return InputError(
        f"input {name!r} has the shape {list(shape)}, but must be {spec}",
        advice=f"reshape it to {spec}",
    )


def _cast(name: str, array: Array, spec: TensorSpec) -> Array:
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    if wanted.kind != "f" and array.dtype.kind == "f":
        raise _wrong_dtype(name, array, spec, "a float is not rounded to an integer silently")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
    if wanted.kind == "f" and array.dtype.kind == "f":
        if not bool(np.all(np.isfinite(cast) | ~np.isfinite(array))):
            raise _wrong_dtype(name, array, spec, "some numbers are too large for it")
        return cast
    if not _exact(array, cast):
        raise _wrong_dtype(name, array, spec, "some numbers have no exact counterpart in it")
    return cast


def _exact(array: Array, cast: Array) -> bool:
    """Whether all integers (or bools) of that range keep their values."""
    if array.size == 0:
        return True
    if cast.dtype.kind == "b":
        low, high = 0, 1
    elif cast.dtype.kind == "f":
        high = 2 ** (int(np.finfo(cast.dtype).nmant) + 1)
        low = -high
    else:
        limits = np.iinfo(cast.dtype)
        low, high = int(limits.min), int(limits.max)
    return low <= int(array.min()) and int(array.max()) <= high


def _wrong_dtype(name: str, array: Array, spec: TensorSpec, why: str) -> InputError:
    return InputError(
        f"input {name!r} is {array.dtype.name}, but must be {spec}: {why}",
        advice=f"convert it: array.astype({spec.dtype!r})",
    )
