"""Compare arrays with what a bundle says they should be. Torch-free: serving code verifies too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.manifest import Expected, Tolerance
from partitioner.specs import TensorSpec

__all__ = ["MAX_VALUES", "Difference", "compare", "compare_shape_of", "positions", "sampled"]

#: A tensor is kept as at most this many of its values and its norm, so that parity samples stay
#: small beside the weights.
MAX_VALUES = 1024

#: Results of host ops may have another number of rows on another host (a surface that passes
#: within rounding of a grid point); up to this share is accepted.
_ROWS_SHARE = 0.01


@dataclass(frozen=True)
class Difference:
    """How far an array is from what was expected.

    ``relative``: L2 norm of the difference by the norm expected (both over the sampled values);
    infinite where shapes, or one's NaN and the other's number, disagree. ``fault`` says what is
    wrong where it is more than rounding.
    """

    relative: float
    absolute: float
    ok: bool
    fault: str = ""


def positions(size: int, count: int) -> npt.NDArray[np.int64]:
    """The flat positions of ``count`` samples of a tensor with ``size`` elements."""
    return (np.arange(count, dtype=np.int64) * size) // max(count, 1)


def sampled(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Values of an array at :func:`positions`, at most :data:`MAX_VALUES`, as float64."""
    flat = array.reshape(-1)
    return flat[positions(flat.size, min(flat.size, MAX_VALUES))].astype(np.float64)


def compare(
    expected: Expected,
    values: npt.NDArray[np.float64],
    array: npt.NDArray[Any],
    tolerance: Tolerance,
) -> Difference:
    """Compare an array with an expected tensor.

    Args:
        values: the sampled values that ``expected.values`` refers to.
    """
    if not expected.exact:
        return compare_shape_of(expected, values, array, tolerance)
    spec = TensorSpec(array.dtype.name, array.shape)
    if spec != expected.spec:
        return _wrong(f"is {spec}, expected {expected.spec}")
    if expected.count != values.size:
        return _wrong("the expected values are incomplete")
    actual = array.reshape(-1)[positions(array.size, expected.count)].astype(np.float64)
    difference = _difference(values, actual, tolerance)
    if not difference.ok:
        return difference
    # The samples agree; the norm sees the rest of the tensor.
    return _check_norm(expected.norm, _norm(array), difference, tolerance)


def compare_shape_of(
    expected: Expected,
    values: npt.NDArray[np.float64],
    array: npt.NDArray[Any],
    tolerance: Tolerance,
) -> Difference:
    """Compare the result of a host op: number of rows within 1 %, and the same scale."""
    wanted = expected.spec.shape
    rank = len(wanted)
    if array.ndim != rank or array.dtype.name != expected.spec.dtype:
        return _wrong(f"is {TensorSpec(array.dtype.name, array.shape)}, expected {expected.spec}")
    for have, want in zip(array.shape, wanted, strict=True):
        rows = cast(int, want)
        if abs(have - rows) > max(1, _ROWS_SHARE * rows):
            return _wrong(f"has shape {list(array.shape)}, expected {list(wanted)} within 1 %")
    if array.size == 0:
        return Difference(0.0, 0.0, ok=True)
    # Root mean square does not depend on how many rows there are, nor on their order.
    rms = _norm(array) / math.sqrt(array.size)
    count = math.prod(cast("tuple[int, ...]", wanted))
    wanted_rms = expected.norm / math.sqrt(max(count, 1))
    error = abs(rms - wanted_rms)
    relative = error / wanted_rms if wanted_rms else error
    ok = bool(relative <= _ROWS_SHARE)
    return Difference(relative, error, ok, "" if ok else "has another scale")


def _norm(array: npt.NDArray[Any]) -> float:
    # In pieces: a float64 copy of a large tensor would double the memory of a request.
    flat = array.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, 2**20):
        piece = flat[start : start + 2**20].astype(np.float64)
        total += float(piece @ piece)
    return math.sqrt(total)


def _difference(
    expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64], tolerance: Tolerance
) -> Difference:
    if not np.array_equal(np.isnan(expected), np.isnan(actual)):
        return _wrong("has NaN where a number is expected, or a number for NaN")
    if not np.array_equal(np.isinf(expected) * expected, np.isinf(actual) * actual, equal_nan=True):
        return _wrong("has an infinity where none is expected, or none where one is")
    finite = np.isfinite(expected)
    error = float(np.linalg.norm(expected[finite] - actual[finite]))
    scale = float(np.linalg.norm(expected[finite]))
    rms = error / math.sqrt(max(int(finite.sum()), 1))
    relative = error / scale if scale else error
    return Difference(relative, rms, ok=relative <= tolerance.relative or rms <= tolerance.absolute)


def _check_norm(
    expected: float, actual: float, difference: Difference, tolerance: Tolerance
) -> Difference:
    if (math.isnan(expected) and math.isnan(actual)) or (
        math.isinf(expected) and expected == actual
    ):
        return difference
    error = abs(expected - actual)
    # NaN fails this comparison, as it should.
    if error <= max(tolerance.relative * expected, tolerance.absolute):
        return difference
    return Difference(
        error / expected if expected else error,
        error,
        ok=False,
        fault=f"agrees where sampled, but its norm is {actual:.6g}, expected {expected:.6g}",
    )


def _wrong(fault: str) -> Difference:
    return Difference(math.inf, math.inf, ok=False, fault=fault)
