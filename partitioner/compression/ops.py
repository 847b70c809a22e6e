"""Products with weights that are packed block by block, as ONNX Runtime's ``MatMulNBits`` has them.

The operation is ``com.microsoft.MatMulNBits`` with symmetric blocks: the weight of shape (k, n) is
cut into blocks of ``block`` along k, each with a scale; a weight is ``scale * (code - zero)``,
where ``zero`` is half the range of codes. Its kernels round the other operand to 8 bits, block by
block, too (``accuracy_level`` 4): more than twice as fast as float32 at one row. The reference here
does the same, so that the error is known before anything is compiled.
"""

from __future__ import annotations

import torch

__all__ = ["OVERLOAD", "matmul_nbits", "unpack"]

#: The largest code of an operand that is rounded to 8 bits.
_LARGEST = 127.0


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes less their zero.

    Args:
        packed: (n, blocks, bytes) uint8; of two codes in a byte, the first is in the low bits.
        bits: 4 or 8.

    Returns:
        (n, blocks, block) float32.
    """
    if bits == 8:
        return packed.to(torch.float32) - 128.0
    low, high = packed & 15, packed >> 4
    codes = torch.stack([low, high], dim=-1).flatten(-2)
    return codes.to(torch.float32) - 8.0


@torch.library.custom_op("partitioner::matmul_nbits", mutates_args=())
def matmul_nbits(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    k: int,
    n: int,
    bits: int,
    block: int,
) -> torch.Tensor:
    """Multiply by a packed weight.

    Args:
        x: (..., k) float32.
        packed: (n, k / block, block * bits / 8) uint8.
        scales: (n * k / block,) float32.

    Returns:
        (..., n) float32.
    """
    blocks = x.reshape(-1, k // block, block)
    largest = blocks.abs().amax(dim=-1, keepdim=True)
    step = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    rounded = (blocks / step).round() * step
    weight = unpack(packed, bits) * scales.reshape(n, k // block, 1)
    product = rounded.reshape(-1, k) @ weight.reshape(n, k).T
    return product.reshape(*x.shape[:-1], n)


@matmul_nbits.register_fake
def _(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    k: int,
    n: int,
    bits: int,
    block: int,
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], n))


#: The operation as it stands in graphs.
OVERLOAD = torch.ops.partitioner.matmul_nbits.default
