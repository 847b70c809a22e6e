"""Which nodes OpenVINO takes.

Made from data, without the library: see :mod:`partitioner.backends.openvino.table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.backends.openvino.table import OPS
from partitioner.compression.ops import OVERLOAD

if TYPE_CHECKING:
    from torch import fx

    from partitioner.program import TensorType
    from partitioner.targets import Target

__all__ = ["verdict"]

#: dtypes that OpenVINO's CPU plugin keeps the numbers of. It computes float64 in float32 without a
#: word, and indices in 32 bits, which no tensor that fits into memory exceeds.
_DTYPES = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.float32,
    }
)


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Whether OpenVINO's converter and CPU plugin take a node."""
    source = cast(str, node.meta.get("source", ""))
    op = node.target
    if not (_casts_a_weight(node) or op is OVERLOAD):
        for type_ in _types(node):
            if type_.dtype not in _DTYPES:
                name = str(type_.dtype).removeprefix("torch.")
                return Rejected("dtype", f"OpenVINO does not compute in {name} on a CPU", source)
    for type_ in _types(node):
        if None in type_.shape:
            return Rejected("dynamic-shape", "a size is known only at run time", source)
        if 0 in type_.shape:
            return Rejected("configuration", "OpenVINO takes no tensors without elements", source)
    if op is OVERLOAD:
        return Supported("weights of 4 and 8 bits are decompressed inside of products")
    if str(op) in OPS:
        return Supported("converted, compiled and compared with torch")
    return Rejected("unproven", f"nobody has tried {op} with OpenVINO", source)


def _casts_a_weight(node: fx.Node) -> bool:
    """Whether a weight is stored in bfloat16 and cast up."""
    if node.target is not torch.ops.aten._to_copy.default:
        return False
    weight = cast(Any, node.args[0])
    return (
        weight.op == "get_attr"
        and node.meta["type"].dtype in _DTYPES
        and weight.meta["type"].dtype == torch.bfloat16
    )


def _types(node: fx.Node) -> list[TensorType]:
    found: list[TensorType] = []
    for one in (node, *node.all_input_nodes):
        type_ = one.meta["type"]
        parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
        found += [part for part in parts if part is not None]
    return found
