"""Gathers with indices that count become reshapes, slices and permutations.

Code that unpacks grids often builds index tensors of ``arange`` and arithmetic. They depend on
constants only, but are as large as the result or larger, so folding them would be worse than
leaving them. Where the index is affine in the result's coordinates, digit by digit, the same
elements are had by moving the source; see :mod:`partitioner.passes.affine`. Exact: each rewrite is
checked on the numbers 0, 1, 2, ... of the source's elements.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.affine import Movement, find_movement
from partitioner.passes.base import Pass
from partitioner.passes.costs import result_bytes
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name
from partitioner.program import Program, TensorType, add_node, is_getitem, node_type

__all__ = ["RewriteGathers"]

aten = torch.ops.aten

#: Ops that move elements of one operand to where other operands say: name -> the operand's place.
_GATHERS = {"index": 0, "gather": 0, "take": 0, "index_select": 0, "embedding": 0}


def _constant_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on constants only, and can be run."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        items = is_getitem(node) and node.args[0] in found
        if node.op == "get_attr" or items:
            found.add(node)
        elif op_name(node) and found.issuperset(node.all_input_nodes):
            tags = cast(torch._ops.OpOverload, node.target).tags
            if torch.Tag.nondeterministic_seeded not in tags:
                found.add(node)
    return found


def _ancestors(node: fx.Node, within: set[fx.Node]) -> list[fx.Node]:
    """The nodes that a constant node is made of, itself the last."""
    found: dict[fx.Node, None] = {}
    stack = [(node, False)]
    while stack:
        current, done = stack.pop()
        if done:
            found[current] = None
        elif current not in found:
            stack.append((current, True))
            stack += [(n, False) for n in current.all_input_nodes if n in within]
    return list(found)


class _Values:
    """Values of constant nodes, computed when they are asked for and kept while they are small.

    Args:
        limit: bytes that computing one value may take.
    """

    def __init__(self, program: Program, constant: set[fx.Node], limit: int) -> None:
        self._program, self._constant, self._limit = program, constant, limit

    def of(self, node: fx.Node) -> torch.Tensor | None:
        """The value; None if it takes more than the limit."""
        needed = _ancestors(node, self._constant)
        if sum(result_bytes(n) for n in needed if n.op != "get_attr") > self._limit:
            return None
        env: dict[fx.Node, Any] = {}
        for one in needed:
            if one.op == "get_attr":
                env[one] = self._program.constants[cast(str, one.target)]
            else:
                args, kwargs = map_arg((one.args, one.kwargs), lambda n: env[n])
                env[one] = cast(Any, one.target)(*cast(Any, args), **cast(Any, kwargs))
        return env[node]


def _index_nodes(node: fx.Node) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if n is not node.args[_GATHERS[op_name(node)]]]


def _is_candidate(node: fx.Node, constant: set[fx.Node]) -> bool:
    if op_name(node) not in _GATHERS or node in constant:
        return False
    place = _GATHERS[op_name(node)]
    source = node.args[place]
    if not isinstance(source, fx.Node) or None in node_type(source).shape:
        return False
    if None in node_type(node).shape or (op_name(node) == "embedding" and len(node.args) > 2):
        return False
    return constant.issuperset(_index_nodes(node))


def _positions(node: fx.Node, values: _Values) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """For each element of the result, where it lies in the flattened source."""
    source = cast(fx.Node, node.args[_GATHERS[op_name(node)]])
    env: dict[fx.Node, torch.Tensor] = {}
    for operand in _index_nodes(node):
        value = values.of(operand)
        if value is None or value.dtype == torch.bool:
            return None
        env[operand] = value
    shape = cast("tuple[int, ...]", node_type(source).shape)
    env[source] = torch.arange(node_type(source).numel).reshape(shape)
    args, kwargs = map_arg((node.args, node.kwargs), lambda n: env[n])
    result = cast(Any, node.target)(*cast(Any, args), **cast(Any, kwargs))
    return cast(torch.Tensor, result).numpy()


class _Emitter:
    """Appends ops on one value, before a node and like it."""

    def __init__(self, graph: fx.Graph, value: fx.Node, like: fx.Node) -> None:
        self.graph, self.value, self.like = graph, value, like
        self.shape = list(cast("tuple[int, ...]", node_type(value).shape))

    def op(self, target: Any, args: Sequence[Any], shape: Sequence[int]) -> None:
        type_ = TensorType(tuple(shape), node_type(self.like).dtype)
        self.value = add_node(
            self.graph,
            "call_function",
            target,
            (self.value, *args),
            type=type_,
            like=self.like,
        )
        self.shape = list(shape)

    def reshape(self, shape: Sequence[int]) -> None:
        if list(shape) != self.shape:
            self.op(aten.reshape.default, [list(shape)], shape)

    def slice(self, dim: int, start: int, end: int) -> None:
        if end - start != self.shape[dim]:
            shape = [*self.shape[:dim], end - start, *self.shape[dim + 1 :]]
            self.op(aten.slice.Tensor, [dim, start, end], shape)

    def permute(self, order: Sequence[int]) -> None:
        if list(order) != sorted(order):
            shape = [self.shape[axis] for axis in order]
            self.op(aten.permute.default, [list(order)], shape)

    def expand(self, places: Sequence[tuple[int, int]]) -> None:
        for place, size in places:
            ones = [*self.shape[:place], 1, *self.shape[place:]]
            self.op(aten.unsqueeze.default, [place], ones)
            wide = [*ones[:place], size, *ones[place + 1 :]]
            self.op(aten.expand.default, [wide], wide)


def _emit(graph: fx.Graph, node: fx.Node, movement: Movement) -> fx.Node:
    emitter = _Emitter(graph, cast(fx.Node, node.args[_GATHERS[op_name(node)]]), node)
    _take(emitter, movement)
    emitter.permute(movement.order)
    emitter.expand(movement.expanded)
    emitter.reshape(movement.merged)
    for dim, window in enumerate(movement.windows):
        if window is not None:
            emitter.slice(dim, *window)
    return emitter.value


def _take(emitter: _Emitter, movement: Movement) -> None:
    """Cut what is wanted out of the source, and give it the movement's axes.

    Axes that the source has, too, are cut before it is viewed otherwise: cuts of a source that lie
    side by side can be made at once.
    """
    view, count = movement.view, math.prod(movement.view)
    kept = _common_tail(emitter.shape, view)
    row = math.prod(view[len(view) - kept :])
    if movement.begin % row or count % row:
        kept, row = 0, 1
    lead = len(view) - kept
    trailing = emitter.shape[len(emitter.shape) - kept :]
    if count != math.prod(emitter.shape):
        emitter.reshape([math.prod(emitter.shape) // row, *trailing])
        emitter.slice(0, movement.begin // row, (movement.begin + count) // row)
    places = len(emitter.shape) - kept
    cuts = [(a, a + n) for a, n in zip(movement.starts, movement.sizes, strict=True)]
    for dim, cut in enumerate(cuts[lead:]):
        emitter.slice(places + dim, *cut)
    emitter.reshape([*view[:lead], *movement.sizes[lead:]])
    for dim, cut in enumerate(cuts[:lead]):
        emitter.slice(dim, *cut)


def _common_tail(shape: Sequence[int], view: Sequence[int]) -> int:
    """How many of the last dimensions are the same."""
    same = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(reversed(shape), reversed(view), strict=False)
    )
    return sum(1 for _ in same)


def _rewrite(program: Program, graph: fx.Graph, limit: int) -> int:
    constant = _constant_nodes(graph)
    values = _Values(program, constant, limit)
    count = 0
    for node in list(graph.nodes):
        if not _is_candidate(node, constant):
            continue
        positions = _positions(node, values)
        source = cast(fx.Node, node.args[_GATHERS[op_name(node)]])
        movement = None if positions is None else find_movement(positions, node_type(source).numel)
        if movement is None:
            continue
        with graph.inserting_before(node):
            moved = _emit(graph, node, movement)
        node.replace_all_uses_with(moved)
        graph.erase_node(node)
        count += 1
    return count


@dataclass(frozen=True)
class RewriteGathers(Pass):
    """Replace gathers by movements where the index allows it.

    Args:
        limit: bytes that computing one index tensor may take at build time.
    """

    limit: int = 4 * 2**30

    name: ClassVar[str] = "rewrite-gathers"
    tolerance: ClassVar[float] = 0.0

    def apply(self, program: Program) -> bool:
        count = sum(_rewrite(program, graph, self.limit) for _, graph in program.all_graphs())
        if count:
            note(f"{count} gathers move whole blocks: they became reshapes and permutations")
        return bool(count)
