"""Random programs: loops, calls, host ops, draws, constants, ops with several results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import fx

from partitioner.program import DrawOp, DrawSequence, Program

from .sketch import SHAPE, Sketch, aten

__all__ = ["dags", "on_second", "programs"]

Draw = Callable[[st.SearchStrategy[Any]], Any]

STAGES = ("", "encoder", "denoiser", "denoiser.block.1", "decoder")

UNARY = (aten.sin.default, aten.neg.default, aten.tanh.default, aten.relu.default)
BINARY = (aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor, aten.maximum.default)


@dataclass
class _Writer:
    """Writes one graph, op by op; values are all of one shape, so that everything fits."""

    draw: Draw
    sketch: Sketch
    depth: int
    values: list[fx.Node] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)

    def pick(self) -> fx.Node:
        return self.draw(st.sampled_from(self.values))

    def write(self, ops: int) -> None:
        kinds = [self.unary, self.binary, self.several, self.constant, self.fill, self.host]
        kinds += [self.unary, self.binary]
        if self.depth < 2:
            kinds += [self.call, self.loop]
        for line in range(ops):
            self.sketch.source = f"m.py:{self.draw(st.integers(0, 7))} in line_{line}"
            self.sketch.stage = self.draw(st.sampled_from(STAGES))
            self.values += self.draw(st.sampled_from(kinds))()

    def unary(self) -> list[fx.Node]:
        return [self.sketch.op(self.draw(st.sampled_from(UNARY)), self.pick())]

    def binary(self) -> list[fx.Node]:
        return [self.sketch.op(self.draw(st.sampled_from(BINARY)), self.pick(), self.pick())]

    def several(self) -> list[fx.Node]:
        """An op with two results, of which any may be taken, one even twice."""
        node = self.sketch.op(aten.sort.stable, self.pick(), stable=True, dim=1, descending=False)
        taken = self.draw(st.sampled_from([(0,), (1,), (0, 1), (0, 0), (1, 0, 0)]))
        items = [self.sketch.item(node, index) for index in taken]
        return [
            item if index == 0 else self.sketch.op(aten._to_copy.default, item, dtype=torch.float32)
            for index, item in zip(taken, items, strict=True)
        ]

    def constant(self) -> list[fx.Node]:
        number = self.draw(st.integers(0, 3))
        return [self.sketch.constant(f"w.{number}", torch.full(SHAPE, 0.25 * number))]

    def fill(self) -> list[fx.Node]:
        """An op that depends on nothing."""
        return [self.sketch.op(aten.full.default, list(SHAPE), 0.5, dtype=torch.float32)]

    def host(self) -> list[fx.Node]:
        if self.draw(st.booleans()):
            return self.sketch.host("tests.mix", self.pick(), self.pick())
        return self.sketch.host(
            "tests.scale", self.pick(), by=self.draw(st.sampled_from([2.0, 3.0]))
        )

    def graph(self) -> str:
        """A sub-graph: a new one, or one that there is."""
        graphs = self.sketch.program.graphs
        known = [name for name in self.shapes if name in graphs]
        if known and self.draw(st.booleans()):
            return self.draw(st.sampled_from(known))
        name = f"graph_{len(self.shapes)}"
        count = self.draw(st.integers(1, 4))
        self.shapes[name] = count

        def write(inner: Sketch, *inputs: fx.Node) -> list[fx.Node]:
            writer = _Writer(self.draw, inner, self.depth + 1, list(inputs), self.shapes)
            writer.write(self.draw(st.integers(0, 4)))
            results = self.draw(st.integers(1, 4))
            # Inputs come first, so that they are often results: passed on, or swapped.
            return [writer.pick() for _ in range(results)]

        return self.sketch.body(name, write, *([SHAPE] * count))

    def call(self) -> list[fx.Node]:
        graph = self.graph()
        return self.sketch.call(graph, *(self.pick() for _ in range(self.shapes[graph])))

    def loop(self) -> list[fx.Node]:
        graph = self.graph()
        count = self.shapes[graph]
        results = len(self.sketch._results(graph))
        carries = self.draw(st.integers(0, min(count, results)))
        slices = self.draw(st.integers(0, count - carries))
        trips = self.draw(st.integers(1, 3))
        taken = self.draw(st.lists(st.integers(0, results - 1), min_size=1, max_size=4))
        made = self.sketch.loop(
            graph,
            trips,
            inits=[self.pick() for _ in range(carries)],
            slices=[self.rows(trips) for _ in range(slices)],
            invariants=[self.pick() for _ in range(count - carries - slices)],
            take=taken,
        )
        return [self.row(node) for node in made]

    def rows(self, trips: int) -> fx.Node:
        if self.draw(st.booleans()):
            return self.sketch.op(aten.stack.default, [self.pick() for _ in range(trips)])
        table = torch.arange(trips * 6, dtype=torch.float32).reshape(trips, *SHAPE) / 8
        return self.sketch.constant(f"table.{trips}", table)

    def row(self, node: fx.Node) -> fx.Node:
        if node.meta["type"].shape == SHAPE:
            return node
        return self.sketch.op(aten.select.int, node, 0, 0)


@st.composite
def programs(draw: Draw, largest: int = 10) -> Program:
    """A program of a few ops, with two inputs and one draw, not all of them used."""
    sketch = Sketch()
    values = [sketch.input(name) for name in ("x", "y", "noise")]
    writer = _Writer(draw, sketch, 0, values)
    writer.write(draw(st.integers(0, largest)))
    outputs = {f"out_{i}": writer.pick() for i in range(draw(st.integers(1, 3)))}
    # Often the sum of all, so that everything is needed.
    if draw(st.booleans()):
        outputs["sum"] = functools.reduce(sketch.add, writer.values)
    draws = (DrawSequence(1, (DrawOp("noise", "normal", (0.0, 1.0)),)),)
    return sketch.done(draws, **outputs)


@st.composite
def dags(draw: Draw, largest: int = 24) -> Program:
    """One graph without structure: only ops, tangled."""
    sketch = Sketch()
    writer = _Writer(draw, sketch, 2, [sketch.input("x"), sketch.input("y")])
    writer.write(draw(st.integers(1, largest)))
    last = writer.values[-draw(st.integers(1, 4)) :]
    return sketch.done((), **{f"out_{i}": node for i, node in enumerate(last)})


def on_second(node: fx.Node) -> bool:
    """Scatters nodes over two backends by the source line that was drawn for them."""
    return node.meta["source"][len("m.py:")] in "0235"
