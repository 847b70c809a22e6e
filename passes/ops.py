"""Reading ops: their names and arguments, whichever way they are spelled."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import fx

from partitioner.program import TensorType

__all__ = ["argument", "is_constant_number", "op_name", "shape_of", "taken_rows"]


def op_name(node: fx.Node) -> str:
    """``layer_norm`` of ``aten::layer_norm.default``; empty for what is no op."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return ""
    return node.target.name().split("::")[1].split(".")[0]


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """An argument, given by its place or its name, or else the default."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of a node's result; of the first one where there are several."""
    type_ = cast(fx.Node, node).meta["type"]
    first = type_ if isinstance(type_, TensorType) else type_[0]
    return cast("tuple[int, ...]", first.shape)


def is_constant_number(value: Any, number: float) -> bool:
    """Whether an argument is this Python number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number


def taken_rows(node: fx.Node, size: int) -> range:
    """Which of so many rows a ``slice`` or a ``select`` takes."""
    if op_name(node) == "select":
        index = cast(int, argument(node, 2, "index")) % size
        return range(index, index + 1)
    start, end, step = (argument(node, i, k) for i, k in ((2, "start"), (3, "end"), (4, "step")))
    return range(*slice(start, end, step).indices(size))
