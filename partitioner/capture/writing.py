"""Entries of a tape as nodes of a program."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import fx

from partitioner.capture.tape import Constant, DrawSpec, Entry, Number, Operand, Slot, Value
from partitioner.program import DrawOp, DrawSequence, Program, TensorType, add_node, call, host

__all__ = ["ProgramWriter", "draw_op"]


class ProgramWriter:
    """A program while it is made of a tape's entries.

    Attributes:
        graph: the program's main graph.
        env: the nodes of main that hold values of the tape.
        draws: what the program draws, in order.
    """

    def __init__(self, entries: Sequence[Entry], program: Program) -> None:
        self.entries = entries
        self.program = program
        self.graph = program.main
        self.env: dict[Value, fx.Node] = {}
        self.draws: list[DrawSequence] = []
        self._names: dict[Constant, str] = {}
        self._draw_count = 0

    def placeholder(self, entry: Entry, name: str) -> fx.Node:
        """An input of the program for an entry."""
        return add_node(
            self.graph,
            "placeholder",
            name,
            type=cast(TensorType, entry.types[0]),
            source=entry.source,
            name=re.sub(r"\W", "_", name),
        )

    def draw_name(self) -> str:
        """A name for the next input that is drawn."""
        self._draw_count += 1
        return f"noise_{self._draw_count}"

    def resolve(self, operand: Operand) -> Any:
        """What an operand is in the main graph: a node, or a plain number."""
        if isinstance(operand, Value):
            return self.env[operand]
        return self.known(self.graph, operand)

    def known(self, graph: fx.Graph, operand: Constant | Number) -> Any:
        """What an operand with known content is in a graph: a node, or a plain number."""
        if isinstance(operand, Number):
            return operand.value
        name = self._constant_name(operand)
        return add_node(graph, "get_attr", name, type=TensorType.of(operand.tensor))

    def _constant_name(self, constant: Constant) -> str:
        known = self._names.get(constant)
        if known is None:
            known = constant.name or "const"
            if known == "const" or known not in self.program.constants:
                known = self.program.add_constant(known, constant.tensor)
            self._names[constant] = known
        return known

    def emit(
        self, graph: fx.Graph, entry: Entry, resolve: Callable[[Operand], Any]
    ) -> dict[int, fx.Node]:
        """Add an entry's node; result item -> node."""
        node = self._node(graph, entry, resolve)
        if not entry.tuple_result:
            return {0: node}
        return {
            item: add_node(
                graph, "call_function", operator.getitem, (node, item), type=type_, like=node
            )
            for item, type_ in enumerate(entry.types)
            if type_ is not None
        }

    def _node(self, graph: fx.Graph, entry: Entry, resolve: Callable[[Operand], Any]) -> fx.Node:
        types = entry.types if entry.tuple_result else cast(TensorType, entry.types[0])
        if entry.kind == "aten":
            args, kwargs = _fill(entry, resolve)
            target, name = entry.target, None
        else:
            operands = tuple(resolve(operand) for operand in entry.operands)
            kwargs = {}
            name = re.sub(r"\W", "_", cast(str, entry.target))
            if entry.kind == "stage":
                target, args = call, (entry.target, operands)
            else:
                target, args = host, (entry.target, operands, dict(entry.kwargs))
        return add_node(
            graph,
            "call_function",
            target,
            args,
            kwargs,
            type=types,
            source=entry.source,
            stage=entry.stage,
            name=name,
        )


def _fill(
    entry: Entry, resolve: Callable[[Operand], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An aten entry's arguments with nodes, or plain numbers, in its slots."""
    values = [resolve(operand) for operand in entry.operands]

    def fill(leaf: Any) -> Any:
        if isinstance(leaf, tuple):
            return tuple(fill(v) for v in cast("tuple[Any, ...]", leaf))
        if isinstance(leaf, list):
            return [fill(v) for v in cast("list[Any]", leaf)]
        return values[leaf.index] if isinstance(leaf, Slot) else leaf

    return fill(entry.args), {key: fill(value) for key, value in entry.kwargs.items()}


def draw_op(entry: Entry, name: str, *, row: bool) -> DrawOp:
    """How the input of this name is drawn; ``row`` if it has a row for each trip of a loop."""
    spec = cast(DrawSpec, entry.target)
    return DrawOp(name, spec.distribution, spec.args, spec.stream, row)
