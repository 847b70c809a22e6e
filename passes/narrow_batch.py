"""Do not compute rows that nothing reads.

Where all that reads a value takes the same rows of it, only these are computed::

    f(x)[rows] -> f(x[rows])

A guidance scale of 1 leaves the half of the batch without condition unread; this drops it, up to
the inputs of the model.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.base import Pass
from partitioner.passes.dependence import LoopSite, loop_sites
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name
from partitioner.passes.rows import resized_args, resized_type, row_operands
from partitioner.program import Program, TensorType, add_node, is_getitem, node_type

__all__ = ["NarrowBatch"]

aten = torch.ops.aten

#: At most this share of the rows must be left; saving a few is not worth a copy.
_SHARE = 0.75


@dataclass(frozen=True)
class _Range:
    """Rows ``start`` to ``end`` along a dimension."""

    dim: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def _taken(user: fx.Node) -> _Range | None:
    """What a slice takes of its operand."""
    if user.target is not aten.slice.Tensor:
        return None
    operand = cast(fx.Node, user.args[0])
    shape = node_type(operand).shape
    arguments = cast("tuple[Any, ...]", (*user.args[1:], *(None,) * 4))[:4]
    dim = cast(int, arguments[0] or 0) % len(shape)
    size, step = shape[dim], arguments[3]
    if size is None or step not in (None, 1):
        return None
    start, end, _ = slice(arguments[1], arguments[2]).indices(size)
    return _Range(dim, start, end)


def _common_range(node: fx.Node) -> _Range | None:
    """The rows that all users take; None where they take different ones, or nearly all."""
    if node.op != "call_function" or not isinstance(node.meta["type"], TensorType):
        return None
    ranges = {_taken(user) if user.op == "call_function" else None for user in node.users}
    if len(ranges) != 1:
        return None
    taken = ranges.pop()
    if taken is None:
        return None
    total = cast(int, node_type(node).shape[taken.dim])
    return taken if 0 < taken.size <= _SHARE * total else None


def _slice(graph: fx.Graph, node: fx.Node, rows: _Range, reader: fx.Node) -> fx.Node:
    """Rows of ``node``; a part of the stage that reads them, not of the one that made them."""
    type_ = resized_type(node, rows.dim, rows.size)
    return add_node(
        graph,
        "call_function",
        aten.slice.Tensor,
        (node, rows.dim, rows.start, rows.end),
        type=type_,
        like=reader,
    )


def _rows_of(
    graph: fx.Graph, operands: Mapping[fx.Node, int], rows: _Range, reader: fx.Node
) -> dict[fx.Node, fx.Node]:
    """The same rows of operands, each along its own dimension."""
    return {
        node: _slice(graph, node, _Range(dim, rows.start, rows.end), reader)
        for node, dim in operands.items()
    }


# --- one node -----------------------------------------------------------------------------------


def _only_item(node: fx.Node) -> fx.Node | None:
    """The one used item of a ``split`` into parts."""
    if node.target is not aten.split.Tensor:
        return None
    used = [user for user in node.users if user.users]
    return used[0] if len(used) == 1 and is_getitem(used[0]) else None


def _slice_instead(graph: fx.Graph, node: fx.Node, item: fx.Node) -> None:
    """Turn a ``split`` of which one part is used into a slice."""
    operand, size = cast("tuple[fx.Node, int]", node.args[:2])
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    dim = cast(int, dim) % len(node_type(operand).shape)
    start = cast(int, item.args[1]) * size
    rows = cast(int, node_type(item).shape[dim])
    with graph.inserting_before(node):
        taken = _slice(graph, operand, _Range(dim, start, start + rows), node)
    item.replace_all_uses_with(taken)
    for unused in list(node.users):
        graph.erase_node(unused)
    graph.erase_node(node)


def _from_cat(node: fx.Node, rows: _Range) -> Sequence[fx.Node] | None:
    """The parts of a ``cat`` along the rows that make up a range."""
    position, found, covered = 0, list[fx.Node](), 0
    for part in cast("Sequence[fx.Node]", node.args[0]):
        size = cast(int, node_type(part).shape[rows.dim])
        if rows.start <= position and position + size <= rows.end:
            found.append(part)
            covered += size
        position += size
    return found if covered == rows.size else None


def _is_along(node: fx.Node, rows: _Range) -> bool:
    if node.target is not aten.cat.default:
        return False
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return cast(int, dim) % len(node_type(node).shape) == rows.dim


def _narrowed(graph: fx.Graph, node: fx.Node, rows: _Range) -> fx.Node | None:
    """A node that gives these rows of ``node``; None where that is not to be had."""
    if _is_along(node, rows):
        parts = _from_cat(node, rows)
        if parts is None or len(parts) == 1:
            return None if parts is None else parts[0]
        args: Any = (list(parts), rows.dim)
        kwargs: Any = {}
    else:
        operands = row_operands(node, rows.dim)
        if operands is None or any(isinstance(n.meta["type"], tuple) for n in operands):
            return None
        own = _rows_of(graph, operands, rows, node)
        args = resized_args(node, rows.dim, rows.size)
        args, kwargs = map_arg((args, node.kwargs), cast(Any, lambda n: own.get(n, n)))
    type_ = resized_type(node, rows.dim, rows.size)
    return add_node(graph, "call_function", node.target, args, kwargs, type=type_, like=node)


def _narrow_items(graph: fx.Graph, node: fx.Node) -> bool:
    """Narrow an op with several results, of all of which the same rows are taken."""
    items = [user for user in node.users if user.users]
    ranges = {_common_range(item) if is_getitem(item) else None for item in items}
    rows = ranges.pop() if len(ranges) == 1 else None
    operands = row_operands(node, rows.dim) if rows is not None else None
    if rows is None or not operands or any(isinstance(n.meta["type"], tuple) for n in operands):
        return False
    with graph.inserting_before(node):
        own = _rows_of(graph, operands, rows, node)
        args, kwargs = map_arg((node.args, node.kwargs), cast(Any, lambda n: own.get(n, n)))
        type_ = resized_type(node, rows.dim, rows.size)
        narrowed: Any = add_node(
            graph, "call_function", node.target, args, kwargs, type=type_, like=node
        )
        for item in items:
            index = cast(int, item.args[1])
            taken = add_node(
                graph,
                "call_function",
                operator.getitem,
                (narrowed, index),
                type=type_[index],
                like=item,
            )
            for user in list(item.users):
                user.replace_all_uses_with(taken)
                graph.erase_node(user)
    for user in list(node.users):
        graph.erase_node(user)
    graph.erase_node(node)
    return True


def _narrow_graph(graph: fx.Graph) -> int:
    """Narrow what can be; how many nodes."""
    count = 0
    for node in reversed(list(graph.nodes)):
        item = _only_item(node)
        if item is not None:
            _slice_instead(graph, node, item)
            continue
        if isinstance(node.meta.get("type"), tuple) and op_name(node):
            count += _narrow_items(graph, node)
            continue
        rows = _common_range(node)
        if rows is None:
            continue
        with graph.inserting_before(node):
            narrowed = _narrowed(graph, node, rows)
        if narrowed is None:
            continue
        for user in list(node.users):
            user.replace_all_uses_with(narrowed)
            graph.erase_node(user)
        graph.erase_node(node)
        count += 1
    return count


def _narrow_invariants(site: LoopSite) -> int:
    """Slice before the loop what the body takes the same rows of in every trip."""
    count = 0
    first = site.carries + site.slices
    pairs = list(zip(site.given, site.inner, strict=True))
    for index, (outer, inner) in list(enumerate(pairs))[first:]:
        ranges = {_taken(user) if user.op == "call_function" else None for user in inner.users}
        rows = ranges.pop() if len(ranges) == 1 else None
        if rows is None or rows.size == 0:
            continue
        with site.graph.inserting_before(site.node):
            taken = _slice(site.graph, outer, rows, outer)
        inner.meta["type"] = node_type(taken)
        for user in list(inner.users):
            user.replace_all_uses_with(inner)
            site.body.erase_node(user)
        name, given, *rest = site.node.args
        given = cast("tuple[fx.Node, ...]", given)
        site.node.args = (name, (*given[:index], taken, *given[index + 1 :]), *rest)
        count += 1
    return count


@dataclass(frozen=True)
class NarrowBatch(Pass):
    """Push slices towards the inputs, where all users of a value take the same."""

    name: ClassVar[str] = "narrow-batch"

    def apply(self, program: Program) -> bool:
        before = {id(g): len(g.nodes) for _, g in program.all_graphs()}
        count = sum(_narrow_graph(graph) for graph in program.graphs.values())
        count += sum(_narrow_invariants(site) for site in loop_sites(program))
        count += _narrow_graph(program.main)
        if count:
            note(f"{count} nodes compute only the rows that are read")
        return bool(count) or any(len(g.nodes) != before[id(g)] for _, g in program.all_graphs())
