"""Write linear layers as products with a weight that already lies as the product wants it.

``linear(x, w)`` multiplies by the transpose of ``w``. A runtime that meets it transposes the weight
when it loads, into a copy of its own; with the transpose as a node of its own here, constant
folding does it once, at build time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["TransposeWeights"]

aten = torch.ops.aten


def _rewrite(graph: fx.Graph, node: fx.Node) -> None:
    x, weight = cast("tuple[fx.Node, fx.Node]", node.args[:2])
    bias = cast("fx.Node | None", node.args[2] if len(node.args) > 2 else node.kwargs.get("bias"))
    rows, columns = node_type(weight).shape
    result = node_type(node)
    with graph.inserting_before(node):
        turned = add_node(
            graph,
            "call_function",
            aten.permute.default,
            (weight, [1, 0]),
            type=TensorType((columns, rows), result.dtype),
            like=node,
        )
        product = add_node(
            graph, "call_function", aten.matmul.default, (x, turned), type=result, like=node
        )
        if bias is not None:
            product = add_node(
                graph, "call_function", aten.add.Tensor, (product, bias), type=result, like=node
            )
    node.replace_all_uses_with(product)
    graph.erase_node(node)


def _is_constant_linear(node: fx.Node) -> bool:
    if node.target is not aten.linear.default:
        return False
    weight = cast(fx.Node, node.args[1])
    return weight.op == "get_attr" and len(node_type(weight).shape) == 2


@dataclass(frozen=True)
class TransposeWeights(Pass):
    """``linear`` with a constant weight becomes ``matmul`` and ``add``."""

    name: ClassVar[str] = "transpose-weights"

    def apply(self, program: Program) -> bool:
        modified = False
        for _, graph in program.all_graphs():
            for node in list(graph.nodes):
                if node.op == "call_function" and _is_constant_linear(node):
                    _rewrite(graph, node)
                    modified = True
        return modified
