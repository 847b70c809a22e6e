"""The numbers that torch draws on the CPU after ``torch.manual_seed``, without torch.

A request's seed gives the picture that eager gives for it. The generator is the 32-bit Mersenne
Twister (Matsumoto and Nishimura 1998), seeded with the low 32 bits of the seed; NumPy's own
implementation gives the same words. What torch makes of the words is in its sources
``aten/src/ATen/core/DistributionsHelper.h`` (single numbers) and
``aten/src/ATen/native/cpu/DistributionTemplates.h`` (16 and more normal numbers at once).

Guaranteed, bit for bit: float32 numbers of any count, as torch draws them on x86-64 with AVX2 or
AVX-512 (it takes the same code on both). That is one stream, the same on every host that serves.
Eager torch on another processor takes its C library's logarithm and cosine instead, whose last bit
may differ. float64 normal numbers go through this host's C library, so their last bit may differ,
too; so may float16 ones where their count is no multiple of 16.
Uniform float16 numbers are those of torch 2.13, float32 ones rounded; torch 2.9 draws 11 bits each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from partitioner.runtime.boxmuller import fused_multiply_add, normal_pairs

__all__ = ["TorchGenerator", "fills_blocks"]

Array = npt.NDArray[Any]

#: From this many numbers on torch fills whole tensors by Box-Muller on blocks of 16.
_BLOCK = 16

#: Numbers transformed at once; bounds the memory of intermediate results.
_CHUNK = 2**18


class TorchGenerator:
    """One stream of numbers; successive calls share its state, as torch's generator does.

    Args:
        seed: any integer from -2**63 to 2**64 - 1.

    Raises:
        ValueError: the seed is outside of that range.
    """

    def __init__(self, seed: int) -> None:
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"a seed is a 64-bit integer, not {seed}")
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        self._cached: float | None = None

    def normal(
        self, shape: tuple[int, ...], dtype: str = "float32", mean: float = 0.0, std: float = 1.0
    ) -> Array:
        """Normal numbers, as ``torch.randn`` and ``Tensor.normal_`` draw them.

        Args:
            shape: of the result.
            dtype: float32, float64 or float16.

        Raises:
            ValueError: another dtype, or a negative ``std``.
        """
        if std < 0:
            raise ValueError(f"a standard deviation is not negative: {std}")
        size = math.prod(shape)
        if size < _BLOCK:
            values = np.array([self._one(mean, std) for _ in range(size)], np.float64)
            return values.astype(_floating(dtype)).reshape(shape)
        kind = _floating(dtype)
        # torch computes float16 numbers in float32 and rounds the result.
        fill = self._fill64 if dtype == "float64" else self._fill32
        result = fill(size, mean, std)
        if size % _BLOCK:
            # torch fills whole blocks and draws the last 16 numbers anew.
            result[size - _BLOCK :] = fill(_BLOCK, mean, std)
        return result.astype(kind).reshape(shape)

    def uniform(
        self, shape: tuple[int, ...], dtype: str = "float32", low: float = 0.0, high: float = 1.0
    ) -> Array:
        """Uniform numbers of [low, high), as ``torch.rand`` and ``Tensor.uniform_`` draw them.

        Raises:
            ValueError: another dtype than float16, float32 or float64.
        """
        kind = _floating(dtype)
        size = math.prod(shape)
        if dtype == "float64":
            return (self._unit64(size) * (high - low) + low).reshape(shape)
        unit = self._unit(size)
        span, start = np.float32(high) - np.float32(low), np.float32(low)
        return fused_multiply_add(unit, span, start).astype(kind).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: str = "int64") -> Array:
        """Integers of [low, high), as ``torch.randint`` draws them.

        Raises:
            ValueError: an empty range.
        """
        if high <= low:
            raise ValueError(f"integers are drawn from [low, high), which [{low}, {high}) is not")
        size, span = math.prod(shape), high - low
        if span >= 2**32:
            words = self._words(2 * size).astype(np.uint64)
            words = (words[0::2] << np.uint64(32)) | words[1::2]
        else:
            words = self._words(size).astype(np.uint64)
        values = (words % np.uint64(span)).astype(np.int64) + np.int64(low)
        return values.astype(dtype).reshape(shape)

    # --- words ---

    def _words(self, count: int) -> Array:
        if count == 0:
            return np.zeros(0, np.uint32)
        # Of the full range, integers are the twister's words as they are.
        return self._twister.randint(0, 2**32, count, np.uint32)

    def _unit(self, count: int) -> npt.NDArray[np.float32]:
        return (self._words(count) & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)

    def _unit64(self, count: int) -> npt.NDArray[np.float64]:
        words = self._words(2 * count).astype(np.uint64)
        joined = (words[0::2] << np.uint64(32)) | words[1::2]
        return (joined & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53

    # --- normal numbers ---

    def _one(self, mean: float, std: float) -> float:
        """Box-Muller in double precision; the second number of a pair is kept for the next."""
        if self._cached is not None:
            value, self._cached = self._cached, None
            return value * std + mean
        first, second = self._unit64(2).tolist()
        radius = math.sqrt(-2.0 * math.log1p(-second))
        angle = 2.0 * math.pi * first
        self._cached = radius * math.sin(angle)
        return radius * math.cos(angle) * std + mean

    def _fill32(self, size: int, mean: float, std: float) -> npt.NDArray[np.float32]:
        result = np.empty(size, np.float32)
        unit = self._unit(size)
        whole = size - size % _BLOCK
        for start in range(0, whole, _CHUNK):
            block = unit[start : min(start + _CHUNK, whole)].reshape(-1, 2, _BLOCK // 2)
            pairs = normal_pairs(block[:, 0], block[:, 1])
            scaled = fused_multiply_add(pairs, np.float32(std), np.float32(mean))
            result[start : start + scaled.size] = scaled.reshape(-1)
        result[whole:] = unit[whole:]
        return result

    def _fill64(self, size: int, mean: float, std: float) -> npt.NDArray[np.float64]:
        unit = self._unit64(size)
        whole = size - size % _BLOCK
        block = unit[:whole].reshape(-1, 2, _BLOCK // 2)
        radius = np.sqrt(-2.0 * np.log(1.0 - block[:, 0]))
        angle = 2.0 * math.pi * block[:, 1]
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        unit[:whole] = (pairs * std + mean).reshape(-1)
        return unit


def fills_blocks(shape: tuple[int, ...]) -> bool:
    """Whether normal tensors of a shape, drawn in turn, are the rows of one drawn at once.

    They are where whole blocks of numbers fill each.
    """
    size = math.prod(shape)
    return size >= _BLOCK and size % _BLOCK == 0


def _floating(dtype: str) -> Any:
    if dtype not in ("float16", "float32", "float64"):
        raise ValueError(f"random numbers are float16, float32 or float64, not {dtype}")
    return np.dtype(dtype).type
