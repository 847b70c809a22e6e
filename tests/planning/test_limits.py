"""Segments that are too large are split where they are narrowest."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import given
from torch import fx

from partitioner.interpreter import run_program
from partitioner.planning.graphs import live_nodes
from partitioner.planning.limits import excess_of, split
from partitioner.planning.plan import make_plan
from partitioner.program import Program
from partitioner.targets import Limits

from .simulate import random_inputs, run_by_runtime
from .sketch import TWO, Judge, Sketch, aten
from .strategies import dags
from .test_random import SETTINGS, assert_same


def hourglass() -> tuple[Program, fx.Node]:
    """Six ops in a row, of which the third gives by far the least; that one."""
    sketch = Sketch()
    x = sketch.input("x", (64, 64))
    wide = sketch.sin(sketch.sin(x))
    waist = sketch.op(aten.sum.dim_IntList, wide, [1], True)
    again = sketch.op(aten.expand.default, waist, [64, 64])
    return sketch.done(y=sketch.sin(sketch.sin(again))), waist


def test_within_the_limits_nothing_is_split():
    program, _ = hourglass()
    nodes = live_nodes(program.main)
    assert [tuple(nodes)] == split(nodes, Limits(instructions=6))
    assert [tuple(nodes)] == split(nodes, None)
    assert excess_of(nodes, Limits(instructions=6)) is None


def test_the_cut_is_where_the_fewest_bytes_go_over():
    program, waist = hourglass()
    first, second = split(live_nodes(program.main), Limits(instructions=4))
    assert waist is first[-1]
    assert 3 == len(second)


def test_the_excess_says_how_much():
    program, _ = hourglass()
    excess = excess_of(live_nodes(program.main), Limits(instructions=4, graph_bytes=10**9))
    assert "instructions: 6 needed, 4 allowed" == str(excess)


def test_weights_and_what_lives_count_as_memory():
    sketch = Sketch()
    x = sketch.input("x", (64, 64))
    for name in "abcd":
        x = sketch.op(aten.mm.default, x, sketch.constant(name, torch.ones(64, 64)))
    program = sketch.done(y=x)
    one = 64 * 64 * 4
    nodes = live_nodes(program.main)
    # Four weights, the input, and a product's operand and result.
    excess = excess_of(nodes, Limits(memory_bytes=6 * one))
    assert excess is not None
    assert 7 * one == excess.needed
    assert [2, 2] == [len(part) for part in split(nodes, Limits(memory_bytes=5 * one))]


def test_an_op_that_is_too_large_alone_is_a_part_alone():
    program, _ = hourglass()
    nodes = live_nodes(program.main)
    assert [(node,) for node in nodes] == split(nodes, Limits(graph_bytes=1))


def test_items_stay_with_their_op():
    sketch = Sketch()
    x = sketch.input("x")
    for _ in range(3):
        pair = sketch.op(aten.sort.stable, x, stable=True, dim=1, descending=False)
        x = sketch.item(pair, 0)
    program = sketch.done(y=x)
    parts = split(live_nodes(program.main), Limits(instructions=1))
    assert [2, 2, 2] == [len(part) for part in parts]


@given(dags())
@SETTINGS
def test_a_split_plan_computes_the_same_and_is_within_the_limits(program: Program):
    target = dataclasses.replace(TWO, limits={"first": Limits(instructions=2)})
    planned = make_plan(program, target, {"first": Judge()})
    for segment in planned.segments.values():
        if segment_graph := getattr(segment, "graph", None):
            ops = [n for n in segment_graph.nodes if n.op == "call_function"]
            assert excess_of(ops, target.limits["first"]) is None or len(ops) <= 2
    inputs = random_inputs(program)
    assert_same(run_program(program, inputs), run_by_runtime(planned, program, inputs))
