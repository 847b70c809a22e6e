"""Loops of a program, assembled from repetitions on a tape.

Numbers and constants that differ by trip become tables, values of earlier trips carries (several
trips back: a chain), values of all trips that are used later are collected, draws become stacked
inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import fx

from partitioner.capture.loops import Fixed, Outer, Outers, Repetition, Source
from partitioner.capture.tape import Constant, Number, Operand, Value
from partitioner.capture.writing import ProgramWriter, draw_op
from partitioner.errors import CaptureError
from partitioner.program import DrawOp, DrawSequence, TensorType, add_node, loop

__all__ = ["LoopAssembler"]


@dataclass
class _Slot:
    """One carried value of a loop: ``next`` is a body value, or the slot before it in a chain."""

    init: Operand
    position: int
    item: int
    depth: int
    node: fx.Node
    before: _Slot | None


@dataclass
class _Body:
    """A loop's body while it is built."""

    graph: fx.Graph
    loop: Repetition
    name: str
    slots: dict[Any, _Slot] = field(default_factory=dict[Any, _Slot])
    slices: list[tuple[fx.Node, fx.Node]] = field(default_factory=list[tuple[fx.Node, fx.Node]])
    tables: dict[Any, fx.Node] = field(default_factory=dict[Any, fx.Node])
    invariants: dict[Value, fx.Node] = field(default_factory=dict[Value, fx.Node])
    env: dict[tuple[int, int], fx.Node] = field(default_factory=dict[tuple[int, int], fx.Node])


class LoopAssembler:
    """Adds loops to a program.

    Args:
        outputs: of the pipeline; values of a loop that they hold are among its results.
    """

    def __init__(self, writer: ProgramWriter, outputs: Sequence[Operand]) -> None:
        self._writer = writer
        self._entries = writer.entries
        self._outputs = outputs

    def add(self, found: Repetition) -> None:
        """Add one loop, with its body, its draws and what is used of it later."""
        name = f"loop_{sum(n.target is loop for n in self._writer.graph.nodes) + 1}"
        body = _Body(fx.Graph(), found, name)
        draws = self._body_draws(body)
        for position in range(found.period):
            self._body_entry(body, position)
        after = self._used_after(found)
        finals = {value: self._final_slot(body, value) for value in after}
        collected = sorted(
            {
                ((v.entry - found.start) % found.period, v.item)
                for v, slot in finals.items()
                if slot is None
            }
        )
        node = self._finish_loop(body, collected)
        self._results(body, node, finals, collected)
        if draws:
            self._writer.draws.append(DrawSequence(found.trips, tuple(draws)))

    def _body_draws(self, body: _Body) -> list[DrawOp]:
        """Each draw of the body becomes a stacked input of the program, a row a trip."""
        draws: list[DrawOp] = []
        for position in range(body.loop.period):
            entry = self._entries[body.loop.start + position]
            if entry.kind != "draw":
                continue
            type_ = cast(TensorType, entry.types[0])
            name = self._writer.draw_name()
            stacked = add_node(
                self._writer.graph,
                "placeholder",
                name,
                type=TensorType((body.loop.trips, *type_.shape), type_.dtype),
                source=entry.source,
                name=name,
            )
            inner = self._body_placeholder(body, name, type_, entry.source)
            body.slices.append((stacked, inner))
            body.env[position, 0] = inner
            draws.append(draw_op(entry, name, row=True))
        return draws

    def _body_placeholder(
        self, body: _Body, name: str, type_: TensorType, source: str = ""
    ) -> fx.Node:
        node = add_node(body.graph, "placeholder", name, type=type_, source=source, name=name)
        node.target = node.name
        return node

    def _body_entry(self, body: _Body, position: int) -> None:
        entry = self._entries[body.loop.start + position]
        if entry.kind == "draw":
            return
        sources = body.loop.sources[position]
        nodes = iter(
            [self._body_operand(body, position, k, source) for k, source in enumerate(sources)]
        )
        # The entry of the first trip is the template; its operands are replaced one by one.
        for item, node in self._writer.emit(body.graph, entry, lambda _: next(nodes)).items():
            body.env[position, item] = node

    def _body_operand(self, body: _Body, position: int, index: int, source: Source) -> Any:
        start, period, trips = body.loop.start, body.loop.period, body.loop.trips
        column = [
            self._entries[start + k * period + position].operands[index] for k in range(trips)
        ]
        if isinstance(source, Outer):
            return self._invariant(body, source.value)
        if isinstance(source, Outers):
            return self._history(body, source.values)
        if isinstance(source, Fixed):
            fixed = cast("list[Constant | Number]", column)
            return (
                self._table(body, fixed)
                if source.varies
                else self._writer.known(body.graph, fixed[0])
            )
        if source.trips == 0:
            return body.env[source.position, source.item]
        return self._slot(body, source.position, source.item, tuple(column[: source.trips])).node

    def _invariant(self, body: _Body, value: Value) -> fx.Node:
        if value not in body.invariants:
            type_ = cast(TensorType, self._entries[value.entry].types[value.item])
            outer = self._writer.env[value]
            body.invariants[value] = self._body_placeholder(body, outer.name, type_)
        return body.invariants[value]

    def _history(self, body: _Body, values: tuple[Value, ...]) -> fx.Node:
        """One row a trip of values that were computed before the loop."""
        if values not in body.tables:
            type_ = cast(TensorType, self._entries[values[0].entry].types[values[0].item])
            stacked = add_node(
                self._writer.graph,
                "call_function",
                torch.ops.aten.stack.default,
                ([self._writer.env[value] for value in values],),
                type=TensorType((len(values), *type_.shape), type_.dtype),
                source=self._entries[values[0].entry].source,
            )
            inner = self._body_placeholder(body, "history", type_)
            body.slices.append((stacked, inner))
            body.tables[values] = inner
        return body.tables[values]

    def _table(self, body: _Body, column: Sequence[Constant | Number]) -> fx.Node:
        """One row a trip of a constant that differs from trip to trip."""
        rows = [
            torch.tensor(c.value, dtype=c.dtype) if isinstance(c, Number) else c.tensor
            for c in column
        ]
        table = torch.stack([row.detach() for row in rows])
        key = (table.dtype, tuple(table.shape), bytes(table.reshape(-1).view(torch.uint8).numpy()))
        if key not in body.tables:
            name = self._writer.program.add_constant("table", table)
            stacked = add_node(self._writer.graph, "get_attr", name, type=TensorType.of(table))
            inner = self._body_placeholder(body, name, TensorType.of(rows[0]))
            body.slices.append((stacked, inner))
            body.tables[key] = inner
        return body.tables[key]

    def _slot(self, body: _Body, position: int, item: int, initials: tuple[Operand, ...]) -> _Slot:
        """The carried value that holds (position, item) of ``len(initials)`` trips back.

        ``initials[k]`` is what trip k reads, oldest first.
        """
        depth = len(initials)
        key = (position, item, initials)
        if key not in body.slots:
            before = self._slot(body, position, item, initials[1:]) if depth > 1 else None
            entry = self._entries[body.loop.start + position]
            type_ = cast(TensorType, entry.types[item])
            node = self._body_placeholder(body, "carry", type_)
            body.slots[key] = _Slot(initials[0], position, item, depth, node, before)
        return body.slots[key]

    def _used_after(self, found: Repetition) -> list[Value]:
        inside: dict[Value, None] = {}
        operands = [o for e in self._entries[found.end :] for o in e.operands]
        for operand in [*operands, *self._outputs]:
            if isinstance(operand, Value) and found.start <= operand.entry < found.end:
                inside[operand] = None
        return list(inside)

    def _final_slot(self, body: _Body, value: Value) -> _Slot | None:
        """The carry whose final value is ``value``; None if it has to be collected."""
        found = body.loop
        position = (value.entry - found.start) % found.period
        back = found.trips - (value.entry - found.start) // found.period
        for slot in body.slots.values():
            if (slot.position, slot.item, slot.depth) == (position, value.item, back):
                return slot
        entry = self._entries[value.entry]
        if back > 1 or entry.kind == "draw":
            return None
        type_ = cast(TensorType, entry.types[value.item])
        if None in type_.shape:
            raise CaptureError(
                f"the host op {entry.target!r} in a loop gives results of unknown size",
                where=entry.source,
                advice="call it after the loop",
            )
        return self._slot(body, position, value.item, (Constant(type_.empty("cpu").zero_()),))

    def _finish_loop(self, body: _Body, collected: list[tuple[int, int]]) -> fx.Node:
        slots = list(body.slots.values())
        inners = [
            *(slot.node for slot in slots),
            *(inner for _, inner in body.slices),
            *body.invariants.values(),
        ]
        _order_placeholders(body.graph, inners)
        nexts = [
            s.before.node if s.before is not None else body.env[s.position, s.item] for s in slots
        ]
        rows = [body.env[key] for key in collected]
        body.graph.output((*nexts, *rows))
        self._writer.program.graphs[body.name] = body.graph
        operands = (
            *(self._writer.resolve(slot.init) for slot in slots),
            *(stacked for stacked, _ in body.slices),
            *(self._writer.env[value] for value in body.invariants),
        )
        stacked_types = [
            TensorType((body.loop.trips, *t.shape), t.dtype) for t in (r.meta["type"] for r in rows)
        ]
        return add_node(
            self._writer.graph,
            "call_function",
            loop,
            (body.name, operands, body.loop.trips, len(slots), len(body.slices)),
            type=(*(n.meta["type"] for n in nexts), *stacked_types),
            source=self._entries[body.loop.start].source,
            name=body.name,
        )

    def _results(
        self,
        body: _Body,
        node: fx.Node,
        finals: dict[Value, _Slot | None],
        collected: list[tuple[int, int]],
    ) -> None:
        slots = list(body.slots.values())
        items: dict[int, fx.Node] = {}

        def item(index: int) -> fx.Node:
            if index not in items:
                items[index] = add_node(
                    self._writer.graph,
                    "call_function",
                    operator.getitem,
                    (node, index),
                    type=node.meta["type"][index],
                    like=node,
                )
            return items[index]

        for value, slot in finals.items():
            if slot is not None:
                self._writer.env[value] = item(next(i for i, s in enumerate(slots) if s is slot))
                continue
            where = value.entry - body.loop.start
            column = collected.index((where % body.loop.period, value.item))
            stacked = item(len(slots) + column)
            type_ = cast(TensorType, self._entries[value.entry].types[value.item])
            self._writer.env[value] = add_node(
                self._writer.graph,
                "call_function",
                torch.ops.aten.select.int,
                (stacked, 0, where // body.loop.period),
                type=type_,
                like=node,
            )


def _order_placeholders(graph: fx.Graph, order: Sequence[fx.Node]) -> None:
    """Put the placeholders first, in this order."""
    for node in reversed(order):
        first = next(iter(graph.nodes))
        if node is not first:
            first.prepend(node)
