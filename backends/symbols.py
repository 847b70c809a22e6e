"""Graphs for a range of batch sizes, for exporters: sizes that grow become sums over one symbol.

A segment's graph has plain numbers that know how they grow
(:class:`partitioner.rowcounts.RowCount`). Exporters are given arithmetic on the size of an input
instead, and ``torch.export`` proves that the graph holds for every number of rows of the range: it
refuses where a shape works out for some of them only.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.errors import CompileError
from partitioner.program import TensorType, node_type
from partitioner.rowcounts import RowCount, row_counts

__all__ = ["dynamic_shapes", "export_error", "write_symbols"]

aten = torch.ops.aten


def write_symbols(graph: fx.Graph) -> None:
    """Write a graph's sizes that grow as arithmetic on the size of one of its inputs.

    Raises:
        CompileError: there are such sizes, and no input has one.
    """
    _write_splits(graph)
    sized = [n for n in graph.nodes if n.op == "call_function" and _counts(n)]
    given = list(_growing(graph))
    if not sized and not given:
        return
    if not given:
        raise CompileError(
            "sizes depend on the number of requests, but no input of the segment does",
            where=sized[0].meta.get("source") or None,
            advice="build a bucket for each size instead: --batch 1,4",
        )
    sums = _Sums(graph, given, [count for node in sized for count in _counts(node)])
    for node in sized:
        node.args = sums.written(node.args)
        node.kwargs = sums.written(dict(node.kwargs))


def dynamic_shapes(placeholders: Sequence[fx.Node]) -> tuple[Any, ...] | None:
    """What ``torch.export`` is told of the inputs' shapes; None where all are fixed."""
    if not any(row_counts(node_type(n).shape) for n in placeholders):
        return None
    auto = cast("Any", torch.export.Dim).AUTO
    return tuple(
        {
            dim: auto(min=size.at(size.span.least), max=int(size))
            for dim, size in enumerate(node_type(node).shape)
            if isinstance(size, RowCount)
        }
        for node in placeholders
    )


def export_error(error: Exception, graph: fx.Graph) -> CompileError:
    """What ``torch.export`` says of a graph with symbols, with the source line if it names one."""
    text = str(error)
    nodes = {node.name: node for node in graph.nodes}
    found = re.search(r"While executing %(\w+)", text)
    guilty = nodes.get(found.group(1)) if found else None
    lines = [line for line in text.splitlines() if line.strip()]
    return CompileError(
        "no graph serves all numbers of requests of the range: "
        f"{lines[0] if lines else type(error).__name__}",
        where=(guilty.meta.get("source") or None) if guilty is not None else None,
        advice="build a bucket for each size instead: --batch 1,4",
    )


# --- sizes as arithmetic ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """A dimension of an input that grows."""

    node: fx.Node
    dim: int
    size: RowCount


class _Sums:
    """Arithmetic on the size of one input, for each size that grows.

    With one row more, the unit grows by as much as the size of that input does: by one if there is
    such an input.
    """

    def __init__(self, graph: fx.Graph, given: Sequence[_Given], sizes: Sequence[RowCount]) -> None:
        self._graph = graph
        self._known: dict[tuple[int, int], fx.Node] = {}
        base = min(given, key=lambda one: (one.size.growth, _rest(one.size) != 0))
        every = [*sizes, *(one.size for one in given)]
        self._span, self._step = base.size.span, base.size.growth
        self._last = [n for n in graph.nodes if n.op == "placeholder"][-1]
        unit = self._call(aten.sym_size.int, base.node, base.dim)
        if _rest(base.size):
            unit = self._call(operator.sub, unit, _rest(base.size))
        if any(size.growth % self._step for size in every):
            self._check(self._call(operator.mod, unit, self._step), 0)
            unit, self._step = self._call(operator.floordiv, unit, self._step), 1
        self._unit = unit
        for one in given:
            if one is not base:
                self._check(self._call(aten.sym_size.int, one.node, one.dim), self._node(one.size))

    def written(self, value: Any) -> Any:
        """An argument with nodes for sizes that grow."""
        if isinstance(value, RowCount):
            return self._node(value)
        if isinstance(value, list):
            return [self.written(item) for item in cast("list[Any]", value)]
        if isinstance(value, tuple):
            return tuple(self.written(item) for item in cast("tuple[Any, ...]", value))
        if isinstance(value, dict):
            return {key: self.written(item) for key, item in cast("dict[Any, Any]", value).items()}
        return value

    def _node(self, size: RowCount) -> fx.Node:
        factor, rest = size.growth // self._step, _rest(size)
        if (factor, rest) not in self._known:
            node = self._unit if factor == 1 else self._call(operator.mul, self._unit, factor)
            self._known[factor, rest] = self._call(operator.add, node, rest) if rest else node
        return self._known[factor, rest]

    def _check(self, size: fx.Node, other: fx.Node | int) -> None:
        self._call(torch._check, self._call(operator.eq, size, other))

    def _call(self, target: Any, *args: Any) -> fx.Node:
        with self._graph.inserting_after(self._last):
            self._last = self._graph.call_function(target, args)
        return self._last


def _rest(size: RowCount) -> int:
    """What a size would be without rows."""
    return int(size) - size.growth * size.span.most


def _growing(graph: fx.Graph) -> Iterator[_Given]:
    for node in graph.nodes:
        if node.op == "placeholder":
            for dim, size in enumerate(node_type(node).shape):
                if isinstance(size, RowCount):
                    yield _Given(node, dim, size)


def _counts(node: fx.Node) -> list[RowCount]:
    return row_counts((node.args, node.kwargs))


# --- splits -------------------------------------------------------------------------------------


def _write_splits(graph: fx.Graph) -> None:
    """Splits along a dimension that grows as slices: ONNX has no other form of them."""
    splits = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default}
    for node in list(graph.nodes):
        if node.target not in splits:
            continue
        source = cast("fx.Node", node.args[0])
        dim = cast("int", node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0))
        dim %= len(node_type(source).shape)
        if isinstance(node_type(source).shape[dim], RowCount):
            _write_split(graph, node, source, dim)


def _write_split(graph: fx.Graph, node: fx.Node, source: fx.Node, dim: int) -> None:
    sizes = [type_.shape[dim] for type_ in cast("tuple[TensorType, ...]", node.meta["type"])]
    for item in list(node.users):
        index = cast("int", item.args[1])
        ends = (_total(sizes[:index]), _total(sizes[: index + 1]))
        item.target, item.args = aten.slice.Tensor, (source, dim, *ends)
    graph.erase_node(node)


def _total(sizes: Sequence[int | None]) -> int:
    """The sum of sizes, which grows as they do together."""
    counts = row_counts(list(sizes))
    total = sum(cast("int", size) for size in sizes)
    growth = sum(count.growth for count in counts)
    return RowCount(total, growth, counts[0].span) if growth else total
