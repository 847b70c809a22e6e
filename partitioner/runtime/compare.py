"""Compare arrays with what a bundle says they should be. Torch-free: serving code verifies too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.manifest import Expected, Tolerance
from partitioner.specs import TensorSpec

__all__ = [
    "MAX_VALUES",
    "Difference",
    "Gist",
    "compare",
    "compare_gists",
    "gist_of",
    "positions",
    "sampled",
]

#: A tensor is kept as at most this many of its values and its norm, so that parity samples stay
#: small beside the weights.
MAX_VALUES = 1024

#: Results of host ops may have another number of rows on another host (a surface that passes
#: within rounding of a grid point); up to this share is accepted.
_ROWS_SHARE = 0.01

#: Products of so few numbers OpenBLAS does in the calling thread. Its threads and torch's would
#: wait for one another in turns, which made this eight times as slow.
_PIECE = 2**13


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


@dataclass(frozen=True)
class Gist:
    """A tensor in short: its type, its L2 norm, and its values at :func:`positions`."""

    spec: TensorSpec
    norm: float
    values: npt.NDArray[np.float64]


def gist_of(array: npt.NDArray[Any], limit: int = MAX_VALUES) -> Gist:
    """The gist of an array, with at most ``limit`` of its values."""
    values = sampled(array, limit)
    # Where all values are kept, they give the norm without another look at the array.
    norm = _norm(values if values.size == array.size else array)
    return Gist(_spec(array.dtype, array.shape), norm, values)


@lru_cache(maxsize=1024)
def _spec(dtype: np.dtype[Any], shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(dtype.name, shape)


@lru_cache(maxsize=256)
def positions(size: int, count: int) -> npt.NDArray[np.int64]:
    """The flat positions of ``count`` samples of a tensor with ``size`` elements."""
    return (np.arange(count, dtype=np.int64) * size) // max(count, 1)


def sampled(array: npt.NDArray[Any], limit: int = MAX_VALUES) -> npt.NDArray[np.float64]:
    """Values of an array at :func:`positions`, at most ``limit``, as float64."""
    return _at(array, min(array.size, limit))


def _at(array: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    flat = array.reshape(-1)
    return (flat if count == array.size else flat[positions(array.size, count)]).astype(np.float64)


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
    want = Gist(expected.spec, expected.norm, values)
    if expected.exact and expected.count != values.size:
        return _wrong("the expected values are incomplete")
    spec = TensorSpec(array.dtype.name, array.shape)
    same = spec == expected.spec and expected.exact
    # Where types differ, or data decide on the size, the same positions mean nothing.
    actual = Gist(spec, _norm(array), _at(array, expected.count) if same else values)
    return compare_gists(want, actual, tolerance, exact=expected.exact)


def compare_gists(
    expected: Gist, actual: Gist, tolerance: Tolerance, *, exact: bool = True
) -> Difference:
    """Compare two tensors by their gists, taken at the same positions.

    Args:
        exact: False for results of host ops: their number of rows may differ within 1 %, or the
            tolerance if it is wider, and of their values only the scale is compared.
    """
    if not exact:
        return _compare_scales(expected, actual, max(_ROWS_SHARE, tolerance.relative))
    if actual.spec != expected.spec:
        return _wrong(f"is {actual.spec}, expected {expected.spec}")
    difference = _difference(expected.values, actual.values, tolerance)
    if not difference.ok:
        return difference
    # The samples agree; the norm sees the rest of the tensor.
    return _check_norm(expected.norm, actual.norm, difference, tolerance)


def _compare_scales(expected: Gist, actual: Gist, share: float) -> Difference:
    wanted, shape = expected.spec.shape, cast("tuple[int, ...]", actual.spec.shape)
    if len(shape) != len(wanted) or actual.spec.dtype != expected.spec.dtype:
        return _wrong(f"is {actual.spec}, expected {expected.spec}")
    for have, want in zip(shape, wanted, strict=True):
        rows = cast(int, want)
        if abs(have - rows) > max(1, share * rows):
            within = f"within {share:.0%}".replace("%", " %")
            return _wrong(f"has shape {list(shape)}, expected {list(wanted)} {within}")
    size = math.prod(shape)
    if size == 0:
        return Difference(0.0, 0.0, ok=True)
    # Root mean square does not depend on how many rows there are, nor on their order.
    rms = actual.norm / math.sqrt(size)
    count = math.prod(cast("tuple[int, ...]", wanted))
    wanted_rms = expected.norm / math.sqrt(max(count, 1))
    error = abs(rms - wanted_rms)
    relative = error / wanted_rms if wanted_rms else error
    ok = bool(relative <= share)
    return Difference(relative, error, ok, "" if ok else "has another scale")


def _norm(array: npt.NDArray[Any]) -> float:
    # In pieces: a float64 copy of a large tensor would double the memory of a request.
    flat = array.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE].astype(np.float64, copy=False)
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
