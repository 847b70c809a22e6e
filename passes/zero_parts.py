"""Values of which some rows are zero, and the nodes that give the rest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from partitioner.passes.ops import op_name
from partitioner.passes.rows import resized_type
from partitioner.program import TensorType, add_node, node_type

__all__ = ["Fact", "Part", "Parts", "fitted", "selected", "sliced", "whole"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Part:
    """Rows of a value: so many, and the node that has them, or None where they are zero."""

    size: int
    node: fx.Node | None


@dataclass(frozen=True)
class Parts:
    """A value of which some rows are zero."""

    dim: int
    parts: tuple[Part, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(part.size for part in self.parts)


#: None stands for a value that is all zero.
Fact = Parts | None


def sliced(like: fx.Node, dim: int, part: Part, inside: Sequence[int], step: int) -> fx.Node | None:
    """Every ``step``-th row of a part, from the first of ``inside`` to the last; none of zeros."""
    if part.node is None or len(inside) == part.size:
        return part.node
    with like.graph.inserting_before(like):
        return add_node(
            like.graph,
            "call_function",
            aten.slice.Tensor,
            (part.node, dim, inside[0], inside[-1] + 1, step),
            type=resized_type(part.node, dim, len(inside)),
            like=like,
        )


def selected(node: fx.Node, dim: int, rows: fx.Node) -> fx.Node:
    """The only row of ``rows``, for the node that selects it."""
    with node.graph.inserting_before(node):
        return add_node(
            node.graph,
            "call_function",
            aten.select.int,
            (rows, dim, 0),
            type=node_type(node),
            like=node,
        )


def fitted(node: fx.Node, kept: fx.Node) -> fx.Node:
    """``kept`` in the type of the node that it stands for."""
    wanted, value = node_type(node), kept
    with node.graph.inserting_before(node):
        if node_type(value).dtype != wanted.dtype:
            type_ = TensorType(node_type(value).shape, wanted.dtype)
            value = add_node(
                node.graph,
                "call_function",
                aten._to_copy.default,
                (value,),
                {"dtype": wanted.dtype},
                type=type_,
                like=node,
            )
        if node_type(value).shape != wanted.shape:
            value = add_node(
                node.graph,
                "call_function",
                aten.expand.default,
                (value, list(wanted.shape)),
                type=wanted,
                like=node,
            )
        if op_name(node) == "sub" and kept is node.args[1]:
            value = add_node(
                node.graph, "call_function", aten.neg.default, (value,), type=wanted, like=node
            )
    return value


def whole(node: fx.Node, fact: Fact) -> fx.Node:
    """The whole value of a node; what it needs is added where the graph inserts."""
    if fact is None:
        return _zero(node, node_type(node))
    parts = [
        part.node or _zero(node, _resized(node_type(node), fact.dim, part.size))
        for part in fact.parts
    ]
    return add_node(
        node.graph,
        "call_function",
        aten.cat.default,
        (parts, fact.dim),
        type=node_type(node),
        like=node,
    )


def _zero(like: fx.Node, type_: TensorType) -> fx.Node:
    return add_node(
        like.graph,
        "call_function",
        aten.full.default,
        (list(type_.shape), 0.0 if type_.dtype.is_floating_point else 0),
        {"dtype": type_.dtype},
        type=type_,
        like=like,
    )


def _resized(type_: TensorType, dim: int, size: int) -> TensorType:
    return TensorType((*type_.shape[:dim], size, *type_.shape[dim + 1 :]), type_.dtype)
