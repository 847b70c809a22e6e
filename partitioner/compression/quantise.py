"""Codes and scales of weights, computed by NNCF."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

import torch

from partitioner.errors import MissingDependencyError

__all__ = ["Blocks", "Channels", "by_block", "by_channel"]


@dataclass(frozen=True)
class Blocks:
    """A weight (k, n) in blocks along k, as :mod:`partitioner.compression.ops` takes it.

    Attributes:
        packed: (n, k / block, block * bits / 8) uint8.
        scales: (n * k / block,) float32.
    """

    packed: torch.Tensor
    scales: torch.Tensor


@dataclass(frozen=True)
class Channels:
    """A weight in 8 bits with a scale for each channel: ``codes * scales``.

    Attributes:
        codes: int8, in the weight's shape.
        scales: float32, 1 in all dimensions but the channel's.
    """

    codes: torch.Tensor
    scales: torch.Tensor


@functools.cache
def _nncf() -> Any:
    try:
        import nncf
        from nncf.quantization.algorithms.weight_compression import config, weight_lowering
        from nncf.tensor import Tensor
    except ImportError as error:
        raise MissingDependencyError(
            f"compressing weights needs {error.name}, which is not installed",
            advice="pip install 'partitioner[compress]'",
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf, config.WeightCompressionConfig, weight_lowering.do_integer_quantization, Tensor


def _quantised(weight: torch.Tensor, bits: int, block: int, axis: Any) -> Any:
    nncf, config, quantise, tensor = _nncf()
    mode = getattr(nncf.CompressWeightsMode, f"INT{bits}_SYM")
    with torch.no_grad():
        return quantise(tensor(weight.detach().float()), config(mode, group_size=block), axis)


def by_block(weight: torch.Tensor, bits: int, block: int) -> Blocks:
    """Quantise a weight (k, n) symmetrically, block by block.

    Args:
        bits: 4 or 8.
        block: divides k.

    Raises:
        MissingDependencyError: NNCF is not installed.
    """
    found = _quantised(weight.T.contiguous(), bits, block, 1)
    codes = found.tensor.data.to(torch.int16) + 2 ** (bits - 1)
    codes = codes.clamp(0, 2**bits - 1).to(torch.uint8)
    scales = found.scale.data.to(torch.float32).reshape(-1).contiguous()
    if bits == 8:
        return Blocks(codes.contiguous(), scales)
    return Blocks((codes[..., 0::2] | (codes[..., 1::2] << 4)).contiguous(), scales)


def by_channel(weight: torch.Tensor, channel: int) -> Channels:
    """Quantise a weight to 8 bits with a scale for each index of one dimension.

    Raises:
        MissingDependencyError: NNCF is not installed.
    """
    rest = tuple(d for d in range(weight.ndim) if d != channel)
    found = _quantised(weight, 8, -1, rest)
    codes = found.tensor.data.to(torch.int8).contiguous()
    return Channels(codes, found.scale.data.to(torch.float32).contiguous())
