"""Estimates and measurements decide who has what: borders, loops, preference."""

from __future__ import annotations

import torch
from torch import fx

from partitioner.planning.placement import place
from partitioner.planning.plan import make_plan
from partitioner.planning.scale import Scale
from partitioner.program import Program
from partitioner.targets import Target

from .figures import ACCELERATED, PAIR
from .sketch import Judge, Sketch, aten

N = 512


def backends(program: Program, target: Target, scale: Scale | None = None, **refuse: str) -> str:
    """The backend of each op in order, by its first letter; ``refuse`` names an op's backend."""
    judges = {
        name: Judge(lambda node, name=name: refuse.get(_name(node)) == name)
        for name in ("first", "second")
    }
    make_plan(program, target, judges, scale)
    placed = place(program, target, judges, scale).backends
    return "".join(owner[0] for node, owner in placed.items() if "getitem" not in node.name)


def _name(node: fx.Node) -> str:
    return str(node.target).split(".")[1]


def products(count: int, odd: int | None = None) -> Program:
    """Products in a row; at ``odd`` a sine."""
    sketch = Sketch()
    x = sketch.input("x", (N, N))
    weight = sketch.constant("w", torch.ones(N, N) / N)
    for index in range(count):
        x = sketch.sin(x) if index == odd else sketch.op(aten.mm.default, x, weight)
    return sketch.done(y=x)


def test_a_refused_op_in_a_long_row_is_an_island():
    assert "fffsfff" == backends(products(7, odd=3), ACCELERATED, sin="first")


def test_too_little_work_is_not_worth_the_way():
    sketch = Sketch()
    x = sketch.input("x", (N, N))
    assert "s" == backends(sketch.done(y=sketch.sin(x)), ACCELERATED)


def test_on_one_device_the_order_of_backends_decides():
    assert "fff" == backends(products(3), PAIR)


def test_on_one_device_an_op_that_the_first_refuses_takes_the_rest_along():
    """A border costs two calls; backends of one device are equal by the estimate."""
    assert "sss" == backends(products(3, odd=1), PAIR, sin="first")


def test_measurements_replace_estimates():
    program = products(3)
    names = [node.name for node in program.main.nodes if node.op == "call_function"]
    factors = {"main": {name: {"first": 2.0, "second": 1.0} for name in names[:2]}}
    usual = {"first": 1.0, "second": 2.0}
    assert "ssf" == backends(program, PAIR, Scale(factors, usual))


def test_what_was_not_measured_does_not_look_better_for_it():
    program = products(3)
    names = [node.name for node in program.main.nodes if node.op == "call_function"]
    factors = {"main": {name: {"first": 10.0} for name in names}}
    assert "fff" == backends(program, PAIR, Scale(factors, {"first": 10.0, "second": 30.0}))


def looped(trips: int) -> Program:
    """A loop whose body could be anywhere; its carried value is large, its work middling."""
    sketch = Sketch()
    x = sketch.input("x", (N, N))

    def step(inner: Sketch, carried: fx.Node) -> list[fx.Node]:
        weight = inner.constant("w", torch.ones(N, N) / N)
        return [inner.sin(inner.op(aten.mm.default, carried, weight))]

    sketch.body("step", step, (N, N))
    (y,) = sketch.loop("step", trips, inits=[x])
    return sketch.done(y=y)


def test_what_is_carried_on_a_device_is_not_brought_there_in_every_step():
    program = looped(20)
    assert "ff" == backends(program, ACCELERATED)


def test_host_ops_bring_values_home():
    sketch = Sketch()
    x = sketch.input("x", (2, 3))
    (scaled,) = sketch.host("tests.scale", sketch.sin(x))
    assert "ss" == backends(sketch.done(y=sketch.sin(scaled)), ACCELERATED)


def test_a_called_graph_is_placed_once_and_its_callers_know_where():
    sketch = Sketch()
    x = sketch.input("x", (N, N))

    def stage(inner: Sketch, a: fx.Node) -> list[fx.Node]:
        weight = inner.constant("w", torch.ones(N, N) / N)
        for _ in range(4):
            a = inner.op(aten.mm.default, a, weight)
        return [a]

    sketch.body("stage", stage, (N, N))
    (once,) = sketch.call("stage", x)
    (twice,) = sketch.call("stage", sketch.sin(once))
    # The sine between two calls on the accelerator stays there.
    assert "fffff" == backends(sketch.done(y=twice), ACCELERATED)
