"""Rows that a pipeline works on one by one, written so that programs for more rows differ less.

``for row in x.split(1)`` has a result for each row, and what follows is there once for each.
Written as calls of one small graph with the row's number as an operand, all rows do the same, and
a row less is a call less: a plan for fewer requests leaves out what belongs to the others.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.program import Program, TensorType, add_node, call, node_type

__all__ = ["with_taken_rows", "without_last_row"]

aten = torch.ops.aten


@dataclass(frozen=True)
class _Taken:
    """One row of a value.

    Attributes:
        node: that gives it.
        index: which.
        kept: whether the dimension of rows stays, of size 1.
    """

    node: fx.Node
    index: int
    kept: bool


def with_taken_rows(program: Program, rows: int) -> Program:
    """The program with each row that is taken of so many as a call of a graph of its own."""
    program = program.copy()
    names: dict[TensorType, str] = {}
    for node in list(program.main.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not _has_rows(source, rows):
            continue
        for taken in list(_taken(node, rows)):
            type_ = node_type(source)
            if type_ not in names:
                names[type_] = _add_graph(program, type_)
            _write(program, source, taken, names[type_])
        if not node.users:
            program.main.erase_node(node)
    return program


def without_last_row(program: Program, listed: Sequence[str], rows: int) -> Program:
    """The program without the outputs of the last row; what only they need is left to passes."""
    program = program.copy()
    output = program.main.output_node()
    nodes = cast("tuple[fx.Node, ...]", output.args[0])
    last = {f"{name}.{rows - 1}" for name in listed}
    kept = [index for index, name in enumerate(program.outputs) if name not in last]
    output.args = (tuple(nodes[index] for index in kept),)
    program.outputs = tuple(program.outputs[index] for index in kept)
    return program


def _has_rows(source: fx.Node, rows: int) -> bool:
    type_ = source.meta["type"]
    return source.op != "get_attr" and isinstance(type_, TensorType) and type_.shape[:1] == (rows,)


def _taken(node: fx.Node, rows: int) -> Iterator[_Taken]:
    """The rows that a node takes of its first operand, which has so many."""
    rest = node.args[1:]
    if node.target is aten.split.Tensor and rest[0] == 1 and _of(rest, 1, 0) == 0:
        yield from (_Taken(item, cast(int, item.args[1]), True) for item in list(node.users))
    elif node.target is aten.unbind.int and _of(rest, 0, 0) == 0:
        yield from (_Taken(item, cast(int, item.args[1]), False) for item in list(node.users))
    elif node.target is aten.select.int and rest[0] == 0:
        yield _Taken(node, cast(int, rest[1]) % rows, False)
    elif node.target is aten.slice.Tensor and _of(rest, 0, 0) == 0:
        start, end = _of(rest, 1, 0), _of(rest, 2, None)
        if isinstance(start, int) and isinstance(end, int) and end == start + 1 and start >= 0:
            yield _Taken(node, start, True)


def _of(rest: Sequence[Any], index: int, default: Any) -> Any:
    return rest[index] if len(rest) > index else default


def _add_graph(program: Program, type_: TensorType) -> str:
    """A graph that takes a row of a value of this type."""
    name = next(n for n in map("take_row_{}".format, range(10**6)) if n not in program.graphs)
    graph = fx.Graph()
    inner = add_node(graph, "placeholder", "whole", type=type_, name="whole")
    index = add_node(graph, "placeholder", "row", type=_INDEX, name="row")
    # What follows may do several rows in one segment: with fewer, the last one is done again.
    last = cast("int", type_.shape[0]) - 1
    there = add_node(graph, "call_function", aten.clamp.default, (index, None, last), type=_INDEX)
    taken = add_node(
        graph,
        "call_function",
        aten.index_select.default,
        (inner, 0, there),
        type=TensorType((1, *type_.shape[1:]), type_.dtype),
    )
    graph.output((taken,))
    program.graphs[name] = graph
    return name


_INDEX = TensorType((1,), torch.int64)


def _write(program: Program, source: fx.Node, taken: _Taken, name: str) -> None:
    graph, like = program.main, taken.node
    row = TensorType((1, *node_type(source).shape[1:]), node_type(source).dtype)
    number = f"row.{taken.index}"
    if number not in program.constants:
        program.constants[number] = torch.tensor([taken.index])
    with graph.inserting_before(like):
        index = add_node(graph, "get_attr", number, type=_INDEX, like=like)
        called = add_node(
            graph, "call_function", call, (name, (source, index)), type=(row,), like=like
        )
        found = add_node(graph, "call_function", operator.getitem, (called, 0), type=row, like=like)
        if not taken.kept:
            found = add_node(
                graph,
                "call_function",
                aten.squeeze.dim,
                (found, 0),
                type=node_type(like),
                like=like,
            )
    like.replace_all_uses_with(found)
    graph.erase_node(like)
