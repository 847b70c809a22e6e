"""What nodes cost: operations and the bytes of weights they read, estimated from types alone.

An operation is one multiplication or one addition, as is usual for counts of FLOP: a product of
(n, k) by (k, m) is 2 n k m. Everything else counts one operation for each element of its result,
and moving data counts none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.passes.ops import op_name, shape_of
from partitioner.program import (
    STRUCTURAL,
    Program,
    TensorType,
    call,
    is_getitem,
    loop,
    node_type,
)

__all__ = ["MOVES", "VIEWS", "Cost", "graph_cost", "operations", "program_cost", "result_bytes"]

aten = torch.ops.aten

#: Ops that only give their operand another shape.
VIEWS = frozenset(["reshape", "view", "unsqueeze", "squeeze", "alias", "detach", "flatten"])

#: Ops that compute nothing.
MOVES = frozenset(
    [
        "alias",
        "cat",
        "chunk",
        "clone",
        "constant_pad_nd",
        "contiguous",
        "detach",
        "expand",
        "flatten",
        "flip",
        "gather",
        "index",
        "index_select",
        "movedim",
        "narrow",
        "pad",
        "permute",
        "repeat",
        "reshape",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "stack",
        "t",
        "tile",
        "transpose",
        "unbind",
        "unflatten",
        "unsafe_chunk",
        "unsafe_split",
        "unsqueeze",
        "view",
        "arange",
        "full",
        "zeros",
        "ones",
        "empty",
        "full_like",
        "zeros_like",
        "ones_like",
        "embedding",
        "lift_fresh_copy",
    ]
)


@dataclass(frozen=True)
class Cost:
    """Of one request.

    Attributes:
        operations: as in the module's docstring; a loop's body counts once a trip.
        weight_bytes: bytes of constants that are read; a loop reads its body's once a trip.
        step_weight_bytes: of these, what one trip of each loop reads, summed over the loops.
    """

    operations: int = 0
    weight_bytes: int = 0
    step_weight_bytes: int = 0


def result_bytes(node: fx.Node) -> int:
    """Bytes of all results of a node, without those whose size only data decide."""
    return sum(p.nbytes for p in _parts(node) if None not in p.shape)


def operations(node: fx.Node) -> int:
    """Operations of one aten op; 0 for what is no op, and where data decide on the size."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return 0
    if any(None in part.shape for part in _parts(node)):
        return 0
    name = op_name(node)
    if name in MOVES:
        return 0
    count = _COUNTS.get(name)
    return count(node) if count is not None else sum(p.numel for p in _parts(node))


def program_cost(program: Program) -> Cost:
    """The cost of one run of the main graph."""
    return graph_cost(program, "main")


def graph_cost(program: Program, name: str) -> Cost:
    """The cost of one run of a graph, with what it calls."""
    costs: dict[str, Cost] = {}

    def visit(name: str) -> Cost:
        if name not in costs:
            graph = program.main if name == "main" else program.graphs[name]
            costs[name] = _of_nodes(program, graph.nodes, visit)
        return costs[name]

    return visit(name)


def _of_nodes(program: Program, nodes: Iterable[fx.Node], visit: Callable[[str], Cost]) -> Cost:
    count, read, step = 0, 0, 0
    weights: set[str] = set()
    for node in nodes:
        if node.op == "get_attr" and any(not _is_loop(user) for user in node.users):
            weights.add(cast(str, node.target))
        elif node.target in (call, loop):
            inner = visit(cast(str, node.args[0]))
            trips = cast(int, node.args[2]) if node.target is loop else 1
            count += inner.operations * trips
            read += inner.weight_bytes * trips
            step += inner.weight_bytes if node.target is loop else inner.step_weight_bytes
        elif node.target not in STRUCTURAL and not is_getitem(node):
            count += operations(node)
    read += sum(program.constants[w].nbytes for w in weights)
    return Cost(count, read, step)


def _is_loop(node: fx.Node) -> bool:
    # Tables are read a row at a time, and rows are small.
    return node.target is loop


def _parts(node: fx.Node) -> list[TensorType]:
    type_ = node.meta["type"]
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    return [part for part in parts if part is not None]


def _product(node: fx.Node) -> int:
    # The operands are the last two of baddbmm(bias, a, b) and addmm, the first two of matmul.
    tensors = [a for a in node.args if isinstance(a, fx.Node)]
    left = tensors[-2] if op_name(node) in ("addmm", "baddbmm") else tensors[0]
    return 2 * node_type(node).numel * shape_of(left)[-1]


def _linear(node: fx.Node) -> int:
    return 2 * node_type(node).numel * shape_of(node.args[1])[-1]


def _convolution(node: fx.Node) -> int:
    weight, transposed = shape_of(node.args[1]), "transpose" in op_name(node)
    if op_name(node) == "convolution":
        transposed = bool(node.args[6])
    # Each element of the input (of a transposed convolution) or of the result meets a filter.
    meets = math.prod(shape_of(node.args[0])) if transposed else node_type(node).numel
    return 2 * meets * math.prod(weight[1:])


def _attention(node: fx.Node) -> int:
    query, key, value = (shape_of(node.args[i]) for i in range(3))
    rows = math.prod(query[:-1])
    return 2 * rows * key[-2] * (query[-1] + value[-1])


_COUNTS: dict[str, Callable[[fx.Node], int]] = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "addmm", "baddbmm"), _product),
    "matmul_nbits": _product,
    "linear": _linear,
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        _convolution,
    ),
    "convolution": _convolution,
    "scaled_dot_product_attention": _attention,
}
