"""How products with packed weights are written in ONNX."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import fx

from partitioner.compression.ops import OVERLOAD

__all__ = ["write_packed"]

#: Multiply rounded to 8 bits; the reference of the operation does so, too.
_ACCURACY_LEVEL = 4


def write_packed(graph: fx.Graph) -> None:
    """Have products with packed weights exported as what ONNX Runtime has for them."""
    for node in graph.nodes:
        if node.target is OVERLOAD:
            node.target = _matmul_nbits


def _matmul_nbits(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    k: int,
    n: int,
    bits: int,
    block: int,
) -> torch.Tensor:
    return cast(Any, torch.onnx).ops.symbolic(
        "com.microsoft::MatMulNBits",
        [x, packed, scales],
        {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": _ACCURACY_LEVEL},
        dtype=x.dtype,
        shape=[*x.shape[:-1], n],
        version=1,
    )
