"""Box-Muller in float32 exactly as torch's AVX2 code computes it.

torch takes the logarithm, sine and cosine of J. Pommier's ``avx_mathfun.h``, which are the
polynomials of the Cephes library (S. Moshier: ``logf.c``, ``sinf.c``, ``cosf.c``), and its compiler
fuses the products and sums in them. Here they are computed by NumPy, operation by operation, fused
where the compiler fuses, so the last bit agrees on any host.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fused_multiply_add", "normal_pairs"]

Floats = npt.NDArray[np.float32]

_F = np.float32

#: Cephes logf: ln(1 + x) for sqrt(1/2) - 1 <= x <= sqrt(2) - 1, highest power first.
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)

#: ln 2 in two parts, the second exact in few bits.
_LN2 = (-2.12194440e-4, 0.693359375)

_SQRT_HALF = 0.707106781186547524

#: Cephes sinf and cosf on [0, pi/4], highest power first.
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)

#: pi/4 in three parts (Cody and Waite), negative.
_QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)

_FOUR_OVER_PI = 1.27323954473516


def normal_pairs(first: Floats, second: Floats) -> Floats:
    """Two normal numbers of each pair of uniform ones in [0, 1).

    Args:
        first, second: float32 of shape (n, 8).

    Returns:
        float32 of shape (n, 2, 8): the cosine halves, then the sine halves.
    """
    radius = np.sqrt(_F(-2) * _log(_F(1) - first))
    sine, cosine = _sincos(_F(2 * math.pi) * second)
    return np.stack([radius * cosine, radius * sine], axis=1)


def fused_multiply_add(a: Any, b: Any, c: Any) -> Floats:
    """``a * b + c`` of float32 with one rounding.

    The product is exact in float64. The sum is rounded there once, and again to float32; that
    differs from one rounding only where it falls on the middle between two float32, which is
    looked for.
    """
    product = np.multiply(a, b, dtype=np.float64)
    wide = np.asarray(c, np.float64)
    total = np.atleast_1d(np.asarray(product + wide))
    result = total.astype(np.float32)
    middle = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if middle.any():
        exact = np.broadcast_to(np.atleast_1d(product), total.shape)[middle]
        addend = np.broadcast_to(wide, total.shape)[middle]
        result[middle] = _rounded_to_odd(exact, addend).astype(np.float32)
    return result.reshape(np.shape(product + wide))


def _rounded_to_odd(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Any:
    """``a + b``, where inexact the neighbour with an odd last bit: safe to round again."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    bits = total.view(np.int64)
    outward = (error > 0) == (total > 0)
    moved = np.where((error != 0) & ((bits & 1) == 0), np.where(outward, 1, -1), 0)
    return (bits + moved).view(np.float64)


def _polynomial(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fused_multiply_add(value, x, _F(coefficient))
    return value


def _log(x: Floats) -> Floats:
    smallest = np.float32(np.finfo(np.float32).tiny)
    bits = np.maximum(x, smallest).view(np.int32)
    exponent = ((bits >> 23) - 127).astype(np.float32) + _F(1)
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).view(np.float32)
    below = mantissa < _F(_SQRT_HALF)
    exponent = np.where(below, exponent - _F(1), exponent)
    x = (mantissa - _F(1)) + np.where(below, mantissa, _F(0))
    square = x * x
    value = _polynomial(x, _LOG) * x
    value = fused_multiply_add(value, square, exponent * _F(_LN2[0]))
    value = value - square * _F(0.5)
    return ((x + value) + exponent * _F(_LN2[1])).astype(np.float32)


def _sincos(angle: Floats) -> tuple[Floats, Floats]:
    """Of angles that are not negative."""
    octant = ((angle * _F(_FOUR_OVER_PI)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    x = angle
    for part in _QUARTER_PI:
        x = fused_multiply_add(turns, _F(part), x)
    square = x * x
    cosine = _polynomial(square, _COS) * square
    cosine = fused_multiply_add(cosine, square, -(square * _F(0.5))) + _F(1)
    sine = fused_multiply_add(_polynomial(square, _SIN) * square, x, x)
    straight = (octant & 2) == 0
    sine_sign = np.where((octant & 4) != 0, _F(-1), _F(1))
    cosine_sign = np.where(((octant - 2) & 4) == 0, _F(-1), _F(1))
    return (
        np.where(straight, sine, cosine) * sine_sign,
        np.where(straight, cosine, sine) * cosine_sign,
    )
