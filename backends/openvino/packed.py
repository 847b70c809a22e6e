"""How products with packed weights are written for OpenVINO.

Its CPU kernels multiply by weights of 4 and 8 bits where they see a constant that is converted,
shifted, scaled and reshaped on its way into a product; written like that, weights are never
unpacked in memory. The other operand is not rounded, so results are nearer to those of float
weights than the reference of the operation is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.backends.openvino.library import openvino
from partitioner.compression.ops import OVERLOAD
from partitioner.program import TensorType

__all__ = ["PackedWeights", "write_packed"]


@dataclass(frozen=True)
class PackedWeights:
    """What is known of weights after :func:`write_packed`.

    Attributes:
        lifted: constants outside of the graph with their types. Weights of 4 bits are declared
            with a byte for each code, since torch has no smaller type.
        nibbles: the indices of those in ``lifted``.
    """

    lifted: dict[str, TensorType]
    nibbles: tuple[int, ...]

    def restore(self, parameters: list[Any]) -> None:
        """Give weights of 4 bits their true type.

        Args:
            parameters: of the OpenVINO model, one for each of ``lifted``.
        """
        for index in self.nibbles:
            parameters[index].set_element_type(openvino().Type.u4)


def write_packed(
    graph: fx.Graph, constants: dict[str, torch.Tensor], lifted: Mapping[str, TensorType]
) -> PackedWeights:
    """Write products with packed weights as what OpenVINO knows.

    Args:
        graph: written to.
        constants: those inside of the graph; packed ones among them are replaced by codes.
        lifted: those outside.
    """
    types = dict(lifted)
    nibbles: set[str] = set()
    for node in graph.nodes:
        if node.target is not OVERLOAD:
            continue
        x, packed, scales, k, n, bits, block = node.args
        name = cast(str, packed.target)
        codes = TensorType((n, k // block, block), torch.uint8)
        if name in types and bits == 4:
            types[name] = codes
            nibbles.add(name)
        elif constants.get(name, packed) is not packed and bits == 4:
            constants[name] = _codes(constants[name], codes.shape)
        packed.meta["type"] = codes
        node.target = _product
        node.args = (x, packed, scales, k, n, bits, block)
    order = list(types)
    return PackedWeights(types, tuple(sorted(order.index(name) for name in nibbles)))


def _codes(packed: torch.Tensor, shape: tuple[int | None, ...]) -> torch.Tensor:
    """A byte for each code of 4 bits; gives codes back as they are."""
    if tuple(packed.shape) == shape:
        return packed
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)


def _product(
    x: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    k: int,
    n: int,
    bits: int,
    block: int,
) -> torch.Tensor:
    zero = float(2 ** (bits - 1))
    weight = (codes.to(torch.float32) - zero) * scales.reshape(n, k // block, 1)
    return torch.nn.functional.linear(x, weight.reshape(n, k))
