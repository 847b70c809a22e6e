"""What is taken away and added again, and numbers that do nothing.

``z + (q - z)`` is ``q``: a straight-through estimator, which matters to gradients only. So is
``u + 1 * (c - u)``: guidance of scale 1, whose other half nothing needs then. Equal up to the
rounding of the two sums, at most 2 eps (|z| + |q|) for each element; where ``z`` is infinite or
NaN, eager gives NaN and this does not.

Products and quotients with 1 and sums with 0 go, too; exact, but that -0.0 + 0 is 0.0 in eager.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import argument, is_constant_number, op_name
from partitioner.program import Program

__all__ = ["CancelDifferences"]


def _is_plain(node: object, name: str) -> bool:
    """Whether a node is a sum or difference of two tensors, neither scaled."""
    if not isinstance(node, fx.Node) or op_name(node) != name:
        return False
    tensors = all(isinstance(operand, fx.Node) for operand in node.args[:2])
    return tensors and argument(node, 2, "alpha", 1) == 1


def _cancelled(node: fx.Node) -> fx.Node | None:
    """``q``, if a node is ``z + (q - z)`` or ``(q - z) + z``.

    No more forms than that: ``(q + z) - z`` with a large ``z`` is how people round.
    """
    if not _is_plain(node, "add"):
        return None
    for kept, difference in (node.args[:2], node.args[1::-1]):
        if _is_plain(difference, "sub"):
            left, right = cast("tuple[fx.Node, fx.Node]", cast(fx.Node, difference).args[:2])
            if right is kept:
                return _same_type(node, left)
    return None


def _idle(node: fx.Node) -> fx.Node | None:
    """The operand of an op with a number that changes nothing."""
    name = op_name(node)
    if name not in ("mul", "div", "add", "sub") or len(node.args) < 2:
        return None
    if name == "div" and node.kwargs.get("rounding_mode") is not None:
        return None
    neutral = 1 if name in ("mul", "div") else 0
    if is_constant_number(node.args[1], neutral):
        return _same_type(node, node.args[0])
    if name in ("mul", "add") and is_constant_number(node.args[0], neutral):
        alpha = argument(node, 2, "alpha", 1)
        return _same_type(node, node.args[1]) if name == "mul" or alpha == 1 else None
    return None


def _same_type(node: fx.Node, value: object) -> fx.Node | None:
    same = isinstance(value, fx.Node) and value.meta["type"] == node.meta["type"]
    return value if same and isinstance(value, fx.Node) else None


def _is_float(node: fx.Node) -> bool:
    type_ = node.meta["type"]
    return not isinstance(type_, tuple) and bool(type_.dtype.is_floating_point)


@dataclass(frozen=True)
class CancelDifferences(Pass):
    """Drop differences that are added again, and numbers that change nothing."""

    name: ClassVar[str] = "cancel-differences"
    # A difference of nearly equal values, as guidance of 1 has it, is left out as a whole.
    tolerance: ClassVar[float] = 1e-5

    def apply(self, program: Program) -> bool:
        count = 0
        for _, graph in program.all_graphs():
            for node in list(graph.nodes):
                if not isinstance(node.target, torch._ops.OpOverload):
                    continue
                value = _idle(node)
                if value is None and _is_float(node):
                    value = _cancelled(node)
                if value is not None:
                    node.replace_all_uses_with(value)
                    graph.erase_node(node)
                    count += 1
        if count:
            note(f"{count} sums and products come to one of their operands")
        return bool(count)
