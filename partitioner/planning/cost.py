"""Seconds of nodes on a device, by the roofline model, and what segments take up.

The roofline (Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for
multicore architectures", 2009): a node takes as long as the slower of its arithmetic and its
traffic with memory. Figures are peaks of the device, so seconds are too few; what a plan needs is
that they compare.

Every backend fuses what works element by element with what made its operands. So a node's traffic
is its weights and its results, each written once, and only products and data movement read their
operands from memory, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.passes.costs import MOVES, VIEWS, operations
from partitioner.passes.ops import op_name, shape_of
from partitioner.program import TensorType
from partitioner.targets import Device

__all__ = [
    "MOVING",
    "PARTITIONS",
    "PRODUCTS",
    "Work",
    "bounds",
    "instructions",
    "node_bytes",
    "node_seconds",
    "work_of",
]

#: Ops whose operations run on the units for products.
PRODUCTS = frozenset(
    (
        *("matmul", "mm", "bmm", "mv", "dot", "addmm", "baddbmm", "matmul_nbits", "linear"),
        *("conv1d", "conv2d", "conv3d", "convolution"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        "scaled_dot_product_attention",
    )
)

#: Rows, and columns, of a NeuronCore's array of multipliers, and the columns that one instruction
#: moves through it: ``nl.tile_size`` of the Neuron Kernel Interface (``pmax``,
#: ``gemm_stationary_fmax``, ``gemm_moving_fmax``).
PARTITIONS, MOVING = 128, 512


@dataclass(frozen=True, slots=True)
class Work:
    """What one node does.

    Attributes:
        operations: a multiplication or an addition each.
        product: whether they run on the units for products.
        dtype: that it computes in, by NumPy name.
        nbytes: to and from memory.
    """

    operations: int
    product: bool
    dtype: str
    nbytes: int


def work_of(node: fx.Node) -> Work:
    """The work of an aten op."""
    name = op_name(node)
    product = name in PRODUCTS
    return Work(operations(node), product, _dtype(node, name), _traffic(node, name, product))


def bounds(work: Work, device: Device) -> tuple[float, float]:
    """Seconds of a node's arithmetic and of its traffic with memory, each by itself."""
    rate = _rate(work.dtype, device) if work.product else device.vector_flops
    return (
        work.operations / (rate * device.efficiency),
        work.nbytes / (device.bandwidth * device.efficiency),
    )


def node_seconds(work: Work, device: Device) -> float:
    """Seconds that a node takes on a device, without a call's overhead."""
    return max(bounds(work, device))


def _rate(dtype: str, device: Device) -> float:
    """Operations a second in products; half of float32's where the device has none of the dtype."""
    return device.flops.get(dtype) or device.flops["float32"] / 2


def _dtype(node: fx.Node, name: str) -> str:
    if name == "matmul_nbits":
        return "int8"
    types = [t for t in (*_types(node), *_operand_types(node)) if t.dtype.is_floating_point]
    # A cast takes and gives two; products have one.
    return str(types[0].dtype).removeprefix("torch.") if types else "int32"


def _traffic(node: fx.Node, name: str, product: bool) -> int:
    if name in VIEWS:
        return 0
    moves = product or name in MOVES
    read = [n for n in node.all_input_nodes if moves or n.op == "get_attr"]
    if name in ("embedding", "index", "index_select", "gather", "select", "slice", "narrow"):
        # As much is read as is written, however large the operand is.
        return 2 * node_bytes(node)
    return node_bytes(node) + sum(map(node_bytes, read))


def node_bytes(node: fx.Node) -> int:
    """Bytes of all results of a node, without those whose size only data decide."""
    return sum(t.nbytes for t in _types(node) if None not in t.shape)


def _types(node: fx.Node) -> list[TensorType]:
    type_ = node.meta["type"]
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    return [part for part in parts if part is not None]


def _operand_types(node: fx.Node) -> Iterable[TensorType]:
    return (type_ for operand in node.all_input_nodes for type_ in _types(operand))


# --- limits -------------------------------------------------------------------------------------


def instructions(node: fx.Node) -> int:
    """About how many instructions a Neuron compiler makes of a node: one a tile.

    A product of (n, k) by (k, m) is cut into tiles of 128 x 128 x 512; what works element by
    element into 128 partitions of 512 elements. An estimate, to be held against a limit that is
    known from reports of users only.
    """
    types = _types(node)
    if (
        not types
        or any(None in t.shape for t in types)
        or not isinstance(node.target, torch._ops.OpOverload)
    ):
        return 0
    name = op_name(node)
    if name in VIEWS:
        return 0
    if name in PRODUCTS:
        return _product_tiles(node, name)
    numel = max(t.numel for t in types)
    return max(1, -(-numel // (PARTITIONS * MOVING)))


def _product_tiles(node: fx.Node, name: str) -> int:
    numel, count = _types(node)[0].numel, operations(node)
    if name == "scaled_dot_product_attention":
        query, key = shape_of(node.args[0]), shape_of(node.args[1])
        heads, tokens, keys = math.prod(query[:-2]), query[-2], key[-2]
        return 2 * heads * _tiles(tokens, query[-1], keys)
    columns = _types(node)[0].shape[1 if name.startswith("conv") else -1] if numel else 1
    columns = columns or 1
    inner = max(1, count // max(1, 2 * numel))
    return _tiles(numel // max(1, columns), inner, columns)


def _tiles(rows: int, inner: int, columns: int) -> int:
    return (
        max(1, -(-rows // MOVING))
        * max(1, -(-inner // PARTITIONS))
        * max(1, -(-columns // PARTITIONS))
    )
