"""Random programs with loops, calls, constants and draws, for property tests."""

from __future__ import annotations

import operator
from typing import Any

import torch
from hypothesis import strategies as st
from torch import fx

from partitioner.program import (
    DrawOp,
    DrawSequence,
    Program,
    TensorType,
    add_node,
    call,
    loop,
)
from partitioner.specs import InputSpec
from partitioner.verifier import verify

__all__ = ["inputs_of", "programs", "rng"]

aten = torch.ops.aten
TYPE = TensorType((2, 3), torch.float32)

UNARY = (aten.sin.default, aten.tanh.default, aten.clone.default, aten.detach.default)
BINARY = (aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Maker:
    """Builds graphs by hypothesis' choices."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.program = Program(main=fx.Graph())

    def constant(self, graph: fx.Graph) -> fx.Node:
        index = self.draw(st.integers(0, 3))
        name = f"stage{index % 2}.weight{index}"
        if name not in self.program.constants:
            self.program.constants[name] = torch.randn(2, 3, generator=rng(index % 3))
        return add_node(graph, "get_attr", name, type=TYPE)

    def ops(self, graph: fx.Graph, values: list[fx.Node], depth: int) -> None:
        """Append random nodes to a graph; ``values`` are what they may use."""
        for _ in range(self.draw(st.integers(0, 5))):
            kinds = ["unary", "binary", "number", "constant", "batch", "nest"]
            kind = self.draw(st.sampled_from(kinds))
            pick = st.sampled_from(values)
            if kind == "constant":
                values.append(self.constant(graph))
            elif kind == "unary":
                self.add(graph, values, self.draw(st.sampled_from(UNARY)), self.draw(pick))
            elif kind == "number":
                number = self.draw(st.sampled_from([0.5, 1.0, 2]))
                self.add(graph, values, aten.mul.Tensor, self.draw(pick), number)
            elif kind == "batch":
                self.batch(graph, values)
            elif kind == "binary" or depth == 0:
                op = self.draw(st.sampled_from(BINARY))
                self.add(graph, values, op, self.draw(pick), self.draw(pick))
            else:
                self.nest(graph, values, depth)

    def add(self, graph: fx.Graph, values: list[fx.Node], op: Any, *args: Any) -> None:
        values.append(add_node(graph, "call_function", op, args, type=TYPE, source="model.py:1"))

    def batch(self, graph: fx.Graph, values: list[fx.Node]) -> None:
        """Work on two values in one, as guidance does, and take it apart again."""
        pick = st.sampled_from(values)
        rows = TensorType((4, 3), torch.float32)
        halves = [self.draw(pick), self.draw(pick)]
        joined = add_node(graph, "call_function", aten.cat.default, (halves, 0), type=rows)
        wholes = [joined]
        for _ in range(self.draw(st.integers(0, 3))):
            op = self.draw(
                st.sampled_from((*UNARY, *BINARY, aten.softmax.int, aten.matmul.default))
            )
            given: tuple[Any, ...] = (self.draw(st.sampled_from(wholes)),)
            if op in BINARY:
                given = (*given, self.draw(st.sampled_from(wholes)))
            elif op is aten.softmax.int:
                given = (*given, self.draw(st.sampled_from([0, -1])))
            elif op is aten.matmul.default:
                given = (*given, self.square(graph))
            wholes.append(
                add_node(graph, "call_function", op, given, type=rows, source="model.py:2")
            )
        if self.draw(st.booleans()):
            split = add_node(
                graph, "call_function", aten.split.Tensor, (wholes[-1], 2, 0), type=(TYPE, TYPE)
            )
            for index in self.draw(st.sampled_from([(0,), (1,), (0, 1)])):
                values.append(
                    add_node(graph, "call_function", operator.getitem, (split, index), type=TYPE)
                )
        else:
            start = self.draw(st.integers(0, 2))
            self.add(graph, values, aten.slice.Tensor, wholes[-1], 0, start, start + 2)

    def square(self, graph: fx.Graph) -> fx.Node:
        """A weight."""
        name = "stage0.square"
        self.program.constants.setdefault(name, torch.randn(3, 3, generator=rng(5)))
        return add_node(graph, "get_attr", name, type=TensorType((3, 3), torch.float32))

    def body(self, inputs: int, outputs: int, depth: int) -> str:
        graph = fx.Graph()
        values = [
            add_node(graph, "placeholder", f"in_{i}", type=TYPE, name=f"in_{i}")
            for i in range(inputs)
        ]
        self.ops(graph, values, depth)
        graph.output(tuple(self.draw(st.sampled_from(values)) for _ in range(outputs)))
        name = f"graph_{len(self.program.graphs)}"
        self.program.graphs[name] = graph
        return name

    def nest(self, graph: fx.Graph, values: list[fx.Node], depth: int) -> None:
        pick = st.sampled_from(values)
        if self.draw(st.booleans()):
            inputs = self.draw(st.integers(0, 2))
            name = self.body(inputs, 2, depth - 1) if inputs else self.body(1, 2, depth - 1)
            for _ in range(self.draw(st.integers(1, 2))):
                given = tuple(self.draw(pick) for _ in range(max(inputs, 1)))
                self.results(graph, values, call, (name, given), (TYPE, TYPE))
            return
        trips, carries = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
        table = self.program.add_constant("table", torch.randn(trips, 2, 3, generator=rng(trips)))
        stacked = TensorType((trips, 2, 3), torch.float32)
        rows = add_node(graph, "get_attr", table, type=stacked)
        name = self.body(carries + 2, carries + 1, depth - 1)
        given = (*(self.draw(pick) for _ in range(carries)), rows, self.draw(pick))
        node = add_node(
            graph,
            "call_function",
            loop,
            (name, given, trips, carries, 1),
            type=(*[TYPE] * carries, stacked),
        )
        values += [
            add_node(graph, "call_function", operator.getitem, (node, i), type=TYPE)
            for i in range(carries)
        ]
        collected = add_node(
            graph, "call_function", operator.getitem, (node, carries), type=stacked
        )
        self.add(graph, values, aten.select.int, collected, 0, 0)

    def results(
        self, graph: fx.Graph, values: list[fx.Node], op: Any, args: Any, types: Any
    ) -> None:
        node = add_node(graph, "call_function", op, args, type=types)
        values += [
            add_node(graph, "call_function", operator.getitem, (node, i), type=type_)
            for i, type_ in enumerate(types)
        ]

    def make(self) -> Program:
        main = self.program.main
        values = [
            add_node(main, "placeholder", name, type=TYPE, name=name) for name in ("x", "noise_1")
        ]
        self.ops(main, values, 2)
        outputs = [self.draw(st.sampled_from(values)) for _ in range(2)]
        main.output(tuple(outputs))
        self.program.inputs = (InputSpec("x", TYPE.spec),)
        self.program.outputs = ("first", "second")
        self.program.draws = (DrawSequence(1, (DrawOp("noise_1", "normal", (0.0, 1.0)),)),)
        verify(self.program)
        return self.program


@st.composite
def programs(draw: Any) -> Program:
    """Well-formed programs over float32 tensors of shape (2, 3)."""
    return Maker(draw).make()


def inputs_of(program: Program) -> dict[str, torch.Tensor]:
    """Values for all placeholders of the main graph."""
    given = {
        "x": torch.randn(2, 3, generator=rng(8)),
        "noise_1": torch.randn(2, 3, generator=rng(9)),
    }
    return {n.target: given[n.target] for n in program.main.nodes if n.op == "placeholder"}
