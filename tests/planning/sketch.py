"""Programs written by hand: types are found by running each op on meta tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.hostops import host_op
from partitioner.planning.plan import make_plan
from partitioner.planning.planned import Planned
from partitioner.program import (
    DrawSequence,
    Program,
    TensorType,
    add_node,
    call,
    host,
    loop,
    node_type,
)
from partitioner.specs import InputSpec, TensorSpec
from partitioner.targets import Target
from partitioner.verifier import verify

__all__ = ["HOST_OPS", "SHAPE", "TWO", "Judge", "Sketch", "aten", "plan"]

aten = torch.ops.aten

#: A target of two backends, in this order.
TWO = Target("two", ("first", "second", "host"), 1e-4, 1e-6, (), "for tests")

SHAPE = (2, 3)


@host_op(outputs={"sum": ("float32", (2, 3)), "product": ("float32", (2, 3))}, name="tests.mix")
def mix(a: Any, b: Any) -> dict[str, Any]:
    return {"sum": a + b, "product": a * b}


@host_op(outputs={"scaled": ("float32", (2, 3))}, name="tests.scale")
def scale(a: Any, *, by: float = 2.0) -> Any:
    return a * np.float32(by)


@host_op(outputs={"grown": ("float32", (None, 3))}, name="tests.grow")
def grow(a: Any) -> Any:
    return np.concatenate([a, a])


HOST_OPS = {op.name: op for op in (mix, scale, grow)}


class Sketch:
    """Writes one graph."""

    def __init__(self, owner: Program | None = None) -> None:
        self.graph = fx.Graph()
        self.program = owner or Program(main=self.graph, host_ops=dict(HOST_OPS))
        self.source, self.stage = "m.py:1", ""

    def input(self, name: str, shape: Sequence[int] = SHAPE) -> fx.Node:
        type_ = TensorType(tuple(shape), torch.float32)
        return self._add("placeholder", name, type=type_, name=name)

    def constant(self, name: str, tensor: torch.Tensor) -> fx.Node:
        self.program.constants[name] = tensor
        return self._add("get_attr", name, type=TensorType.of(tensor))

    def op(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """An aten op; with several results it has to be taken apart by :meth:`item`."""
        metas = fx.node.map_arg((args, kwargs), lambda n: node_type(n).empty())
        result = target(*metas[0], **metas[1])
        types = (
            TensorType.of(result)
            if isinstance(result, torch.Tensor)
            else tuple(TensorType.of(part) for part in result)
        )
        return self._add("call_function", target, args, kwargs, type=types)

    def item(self, node: fx.Node, index: int) -> fx.Node:
        type_ = node.meta["type"][index]
        return self._add("call_function", operator.getitem, (node, index), type=type_)

    def add(self, a: fx.Node, b: fx.Node) -> fx.Node:
        return self.op(aten.add.Tensor, a, b)

    def sin(self, a: fx.Node) -> fx.Node:
        return self.op(aten.sin.default, a)

    def host(self, name: str, *operands: fx.Node, **options: Any) -> list[fx.Node]:
        specs = HOST_OPS[name].outputs.values()
        types = tuple(TensorType(s.shape, getattr(torch, s.dtype)) for s in specs)
        node = self._add("call_function", host, (name, operands, options), type=types)
        return [self.item(node, index) for index in range(len(types))]

    def call(self, graph: str, *operands: fx.Node) -> list[fx.Node]:
        types = tuple(node_type(n) for n in self._results(graph))
        node = self._add("call_function", call, (graph, operands), type=types)
        return [self.item(node, index) for index in range(len(types))]

    def loop(
        self,
        graph: str,
        trips: int,
        *,
        inits: Sequence[fx.Node],
        slices: Sequence[fx.Node] = (),
        invariants: Sequence[fx.Node] = (),
        take: Sequence[int] | None = None,
    ) -> list[fx.Node]:
        """A loop; ``take`` says which results are taken (all by default)."""
        rows = [node_type(n) for n in self._results(graph)[len(inits) :]]
        types = (
            *(node_type(n) for n in inits),
            *(TensorType((trips, *row.shape), row.dtype) for row in rows),
        )
        args = (graph, (*inits, *slices, *invariants), trips, len(inits), len(slices))
        node = self._add("call_function", loop, args, type=types)
        return [self.item(node, i) for i in (range(len(types)) if take is None else take)]

    def body(self, name: str, write: Callable[..., Sequence[fx.Node]], *shapes: Any) -> str:
        """A sub-graph: ``write`` takes a sketch and as many inputs as there are shapes."""
        inner = Sketch(self.program)
        inner.source, inner.stage = self.source, self.stage
        inputs = [inner.input(f"in_{i}", shape) for i, shape in enumerate(shapes)]
        inner.graph.output(tuple(write(inner, *inputs)))
        self.program.graphs[name] = inner.graph
        return name

    def _results(self, graph: str) -> tuple[Any, ...]:
        return self.program.graphs[graph].output_node().args[0]  # pyright: ignore

    def _add(self, *args: Any, **kwargs: Any) -> fx.Node:
        return add_node(self.graph, *args, source=self.source, stage=self.stage, **kwargs)

    def done(self, draws: tuple[DrawSequence, ...] = (), **outputs: fx.Node) -> Program:
        """The program, verified, whose inputs are the placeholders that are not drawn."""
        program = self.program
        self.graph.output(tuple(outputs.values()))
        program.outputs, program.draws = tuple(outputs), draws
        drawn = {d.placeholder for s in draws for d in s.draws}
        program.inputs = tuple(
            InputSpec(str(n.target), TensorSpec("float32", node_type(n).shape))
            for n in self.graph.nodes
            if n.op == "placeholder" and n.target not in drawn
        )
        verify(program)
        return program


class Judge:
    """A backend that refuses nodes by their source line."""

    def __init__(self, refused: Callable[[fx.Node], bool] | None = None) -> None:
        self.refused = refused or (lambda node: False)
        self.asked = 0

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        self.asked += 1
        if self.refused(node):
            return Rejected("op-unsupported", f"no {node.target}", node.meta["source"])
        return Supported()


def plan(program: Program, second: Callable[[fx.Node], bool] | None = None) -> Planned:
    """A plan; nodes for which ``second`` holds go to the second backend."""
    judges: Mapping[str, Judge] = {"first": Judge(second), "second": Judge()}
    return make_plan(program, TWO, judges)
