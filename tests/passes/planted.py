"""A program as denoisers are, and passes with mistakes of the kinds that passes make."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.program import (
    DrawOp,
    DrawSequence,
    Program,
    TensorType,
    add_node,
    loop,
    node_type,
)
from partitioner.specs import InputSpec
from partitioner.verifier import verify
from tests.programs import rng

__all__ = [
    "DropCarry",
    "HoistStep",
    "ShiftTable",
    "SwapSubtraction",
    "TransposeWrongWeight",
    "denoiser",
    "denoiser_inputs",
]

aten = torch.ops.aten
TRIPS = 4
SQUARE = TensorType((3, 3), torch.float32)
ROW = TensorType((1,), torch.float32)


def _op(graph: fx.Graph, name: str, op: object, *args: object, line: int) -> fx.Node:
    return add_node(
        graph, "call_function", op, args, type=SQUARE, name=name, source=f"model.py:{line}"
    )


def denoiser() -> Program:
    """``for t in table: x = x - tanh(x @ w1 @ w2 + sin(t)) * 0.5``, then ``x @ w1``."""
    table = TensorType((TRIPS, 1), torch.float32)
    body = fx.Graph()
    x = add_node(body, "placeholder", "x", type=SQUARE, name="x")
    t = add_node(body, "placeholder", "t", type=ROW, name="t")
    w1 = add_node(body, "get_attr", "w1", type=SQUARE, name="w1")
    w2 = add_node(body, "get_attr", "w2", type=SQUARE, name="w2")
    time = add_node(
        body, "call_function", aten.sin.default, (t,), type=ROW, name="time", source="model.py:10"
    )
    first = _op(body, "first", aten.matmul.default, x, w1, line=11)
    second = _op(body, "second", aten.matmul.default, first, w2, line=12)
    shifted = _op(body, "shifted", aten.add.Tensor, second, time, line=13)
    bent = _op(body, "bent", aten.tanh.default, shifted, line=14)
    step = _op(body, "step", aten.mul.Tensor, bent, 0.5, line=15)
    less = _op(body, "less", aten.sub.Tensor, x, step, line=16)
    body.output((less,))
    main = fx.Graph()
    noise = add_node(main, "placeholder", "noise_1", type=SQUARE, name="noise_1")
    given = add_node(main, "placeholder", "x", type=SQUARE, name="x")
    start = _op(main, "start", aten.add.Tensor, given, noise, line=20)
    times = add_node(main, "get_attr", "times", type=table, name="times")
    looped = add_node(
        main, "call_function", loop, ("body", (start, times), TRIPS, 1, 1), type=(SQUARE,)
    )
    last = _op(main, "last", operator.getitem, looped, 0, line=21)
    again = add_node(main, "get_attr", "w1", type=SQUARE, name="again")
    main.output((_op(main, "decoded", aten.matmul.default, last, again, line=22),))
    program = Program(
        main=main,
        graphs={"body": body},
        constants={
            "w1": torch.randn(3, 3, generator=rng(1)),
            "w2": torch.randn(3, 3, generator=rng(2)),
            "times": torch.linspace(1.0, 0.1, TRIPS).reshape(TRIPS, 1),
        },
        inputs=(InputSpec("x", SQUARE.spec),),
        outputs=("picture",),
        draws=(DrawSequence(1, (DrawOp("noise_1", "normal", (0.0, 1.0)),)),),
    )
    verify(program)
    return program


def denoiser_inputs() -> dict[str, torch.Tensor]:
    return {
        "x": torch.randn(3, 3, generator=rng(3)),
        "noise_1": torch.randn(3, 3, generator=rng(4)),
    }


def named(graph: fx.Graph, name: str) -> fx.Node:
    return next(n for n in graph.nodes if n.name == name)


@dataclass(frozen=True)
class SwapSubtraction(Pass):
    """a - b becomes b - a."""

    name: ClassVar[str] = "swap-subtraction"

    def apply(self, program: Program) -> bool:
        node = named(program.graphs["body"], "less")
        node.args = (node.args[1], node.args[0])
        return True


@dataclass(frozen=True)
class DropCarry(Pass):
    """The carried value becomes an invariant: each step starts from the beginning."""

    name: ClassVar[str] = "drop-carry"

    def apply(self, program: Program) -> bool:
        body, node = program.graphs["body"], next(n for n in program.main.nodes if n.target is loop)
        (result,) = body.output_node().args[0]
        start, times = node.args[1]
        # The order of placeholders is carries, slices, invariants.
        x, t = named(body, "x"), named(body, "t")
        t.append(x)
        stacked = TensorType((TRIPS, *node_type(result).shape), torch.float32)
        node.args = ("body", (times, start), TRIPS, 0, 1)
        node.meta["type"] = (stacked,)
        item = named(program.main, "last")
        item.meta["type"] = stacked
        with program.main.inserting_after(item):
            taken = add_node(
                program.main,
                "call_function",
                aten.select.int,
                (item, 0, TRIPS - 1),
                type=SQUARE,
                like=item,
            )
        item.replace_all_uses_with(taken, delete_user_cb=lambda user: user is not taken)
        return True


@dataclass(frozen=True)
class TransposeWrongWeight(Pass):
    """Meant for ``second``, whose weight the product wants transposed; takes the wrong one."""

    name: ClassVar[str] = "transpose-wrong-weight"

    def apply(self, program: Program) -> bool:
        body = program.graphs["body"]
        node = named(body, "second")
        with body.inserting_before(node):
            turned = add_node(
                body,
                "call_function",
                aten.permute.default,
                (named(body, "w1"), [1, 0]),
                type=SQUARE,
                name="turned",
                like=node,
            )
        node.args = (node.args[0], turned)
        return True


@dataclass(frozen=True)
class ShiftTable(Pass):
    """Each step reads the next step's row."""

    name: ClassVar[str] = "shift-table"

    def apply(self, program: Program) -> bool:
        program.constants["times"] = program.constants["times"].roll(1, 0)
        return True


@dataclass(frozen=True)
class HoistStep(Pass):
    """Takes ``sin(t)`` for the same at every step, and computes it before the loop."""

    name: ClassVar[str] = "hoist-step"

    def apply(self, program: Program) -> bool:
        body, main = program.graphs["body"], program.main
        site = next(n for n in main.nodes if n.target is loop)
        start, times = site.args[1]
        time = named(body, "time")
        with main.inserting_before(site):
            row = add_node(
                main, "call_function", aten.select.int, (times, 0, 0), type=ROW, like=time
            )
            moved = add_node(
                main, "call_function", aten.sin.default, (row,), type=ROW, like=time, name="time"
            )
        with body.inserting_after(named(body, "t")):
            inner = add_node(body, "placeholder", "hoisted", type=ROW, name="hoisted")
        time.replace_all_uses_with(inner)
        body.erase_node(time)
        site.args = ("body", (start, times, moved), TRIPS, 1, 1)
        return True
