"""Which nodes ONNX can express.

The table is the exporter's own: what ``torch.onnx`` has a translation for, or decomposes into such.
It is asked for the installed versions, so that it cannot be out of date.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.program import TensorType

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["verdict"]

#: What ONNX Runtime's CPU kernels compute in. bfloat16 has no arithmetic there.
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
        torch.float64,
    }
)


@functools.cache
def _registry() -> Any:
    """The exporter's translations."""
    from torch.onnx._internal.exporter import _registration

    # It says for each op of torchvision that torchvision is not there.
    log = logging.getLogger(_registration.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return cast(Any, _registration.ONNXRegistry).from_torchlib()
    finally:
        log.setLevel(level)


@functools.cache
def _is_translated(op: Any) -> bool:
    return bool(_registry().is_registered(op))


@functools.cache
def _decomposed() -> frozenset[Any]:
    """Overloads that the exporter takes apart."""
    from torch.onnx._internal.exporter import _decomp

    table = cast(Any, _decomp).create_onnx_friendly_decomposition_table(set())
    return frozenset(cast("dict[Any, Any]", table))


def _types(node: fx.Node) -> list[TensorType]:
    found: list[TensorType] = []
    for one in (node, *node.all_input_nodes):
        type_ = one.meta["type"]
        parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
        found += [part for part in parts if part is not None]
    return found


def _is_composite(op: Any) -> bool:
    """Whether torch itself defines the op by others, whatever the backend."""
    return bool(
        isinstance(op, torch._ops.OpOverload)
        and torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")
    )


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Whether the exporter and ONNX Runtime's CPU kernels take a node."""
    source = cast(str, node.meta.get("source", ""))
    for type_ in _types(node):
        if type_.dtype not in _DTYPES:
            name = str(type_.dtype).removeprefix("torch.")
            return Rejected("dtype", f"ONNX Runtime's CPU kernels do not compute in {name}", source)
        if None in type_.shape:
            return Rejected("dynamic-shape", "a size is known only at run time", source)
    op = node.target
    if _is_translated(op) or op in _decomposed() or _is_composite(op):
        return Supported()
    return Rejected("op-unsupported", f"ONNX has no counterpart of {op}", source)
