"""Which ops are put together: what sinks, what merges, and what must not."""

from __future__ import annotations

import torch
from torch import fx

from partitioner.interpreter import run_program
from partitioner.planning.placement import place
from partitioner.planning.segments import Part, cut_graph
from partitioner.program import Program

from .simulate import random_inputs, simulate
from .sketch import SHAPE, TWO, Judge, Sketch, aten, plan


def parts(program: Program) -> list[list[str]]:
    """Names of the nodes of each part, in order; ops at lines below 10 are the first backend's."""
    judges = {"first": Judge(on_second), "second": Judge()}
    placement = place(program, TWO, judges)
    inputs = random_inputs(program)
    expected = run_program(program, inputs)
    for name, value in simulate(plan(program, on_second), program, inputs).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    return [
        [node.name for node in part.nodes] if isinstance(part, Part) else [part.name]
        for part in cut_graph(program.main, placement)
    ]


def on_second(node: fx.Node) -> bool:
    return node.meta["source"] == "second"


def barrier(sketch: Sketch, x: fx.Node) -> fx.Node:
    return sketch.host("tests.scale", x)[0]


def test_ops_of_one_backend_are_one_part_however_they_hang_together():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    a, b = sketch.sin(x), sketch.op(aten.neg.default, y)
    assert [["sin_default", "neg_default"]] == parts(sketch.done(a=a, b=b))


def test_a_path_through_another_owner_parts_what_it_joins():
    """a -> b and a -> host -> b: taking a and b together would make a circle."""
    sketch = Sketch()
    x = sketch.input("x")
    a = sketch.sin(x)
    b = sketch.add(a, barrier(sketch, a))
    assert [["sin_default"], ["host"], ["add_tensor"]] == parts(sketch.done(y=b))


def test_two_backends_in_a_diamond_are_not_taken_together():
    sketch = Sketch()
    x = sketch.input("x")
    a = sketch.sin(x)
    sketch.source = "second"
    b = sketch.op(aten.neg.default, a)
    c = sketch.op(aten.tanh.default, x)
    sketch.source = "m.py:1"
    d = sketch.add(sketch.add(b, c), a)
    assert [["sin_default"], ["neg_default", "tanh_default"], ["add_tensor", "add_tensor_1"]] == (
        parts(sketch.done(y=d))
    )


def test_what_is_made_of_constants_sinks_to_where_it_is_read():
    sketch = Sketch()
    x = sketch.input("x")
    filter_ = sketch.sin(sketch.op(aten.neg.default, sketch.constant("w", torch.ones(SHAPE))))
    early = sketch.op(aten.tanh.default, x)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, early), filter_)
    assert [["tanh_default"], ["host"], ["neg_default", "sin_default", "mul_tensor"]] == parts(
        sketch.done(y=late)
    )


def test_so_does_what_gets_smaller_on_the_way():
    sketch = Sketch()
    x = sketch.input("x")
    weight = sketch.constant("w", torch.ones(SHAPE))
    small = sketch.op(aten.sum.dim_IntList, sketch.op(aten.neg.default, weight), [1], True)
    early = sketch.op(aten.tanh.default, x)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, early), small)
    assert [["tanh_default"], ["host"], ["neg_default", "sum_dim_int_list", "mul_tensor"]] == (
        parts(sketch.done(y=late))
    )


def test_what_a_host_op_makes_of_constants_is_held_like_anything():
    sketch = Sketch()
    x = sketch.input("x")
    made = barrier(sketch, sketch.constant("w", torch.ones(SHAPE)))
    small = sketch.op(aten.sum.dim_IntList, made, [1], True)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, barrier(sketch, x)), small)
    assert [["host"], ["host_1"], ["sum_dim_int_list"], ["host_2"], ["mul_tensor"]] == parts(
        sketch.done(y=late)
    )


def test_what_is_read_early_and_late_stays_early():
    sketch = Sketch()
    x = sketch.input("x")
    shared = sketch.op(aten.neg.default, sketch.constant("w", torch.ones(SHAPE)))
    early = sketch.add(x, shared)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, early), shared)
    assert [["neg_default", "add_tensor"], ["host"], ["mul_tensor"]] == parts(sketch.done(y=late))


def test_what_makes_a_value_larger_sinks_and_what_makes_it_smaller_stays():
    sketch = Sketch()
    x = sketch.input("x")
    base = sketch.sin(x)
    small = sketch.op(aten.sum.dim_IntList, base, [1], True)
    large = sketch.op(aten.repeat.default, small, [1, 3])
    between = barrier(sketch, base)
    late = sketch.op(aten.mul.Tensor, between, large)
    assert [["sin_default", "sum_dim_int_list"], ["host"], ["repeat_default", "mul_tensor"]] == (
        parts(sketch.done(y=late))
    )


def test_what_the_late_segment_reads_anyway_costs_nothing_to_wait_for():
    sketch = Sketch()
    x = sketch.input("x")
    base = sketch.sin(x)
    small = sketch.op(aten.sum.dim_IntList, base, [1], True)
    late = sketch.add(sketch.op(aten.mul.Tensor, barrier(sketch, base), small), base)
    assert [["sin_default"], ["host"], ["sum_dim_int_list", "mul_tensor", "add_tensor"]] == parts(
        sketch.done(y=late)
    )


def test_glue_whose_result_matters_only_behind_a_barrier_costs_no_call_before_it():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    # Smaller than what it is made of, so it does not sink op by op.
    glue = sketch.op(aten.sum.dim_IntList, sketch.sin(y), [1], True)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, x), glue)
    assert [["host"], ["sin_default", "sum_dim_int_list", "mul_tensor"]] == parts(
        sketch.done(y=late)
    )


def test_an_output_that_nobody_waits_for_joins_a_later_segment():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    early = sketch.sin(y)
    late = sketch.op(aten.neg.default, barrier(sketch, x))
    assert [["host"], ["sin_default", "neg_default"]] == parts(sketch.done(early=early, late=late))


def test_an_output_is_held_to_the_end_so_reading_it_late_costs_nothing():
    sketch = Sketch()
    x = sketch.input("x")
    base = sketch.sin(x)
    small = sketch.op(aten.sum.dim_IntList, base, [1], True)
    late = sketch.op(aten.mul.Tensor, barrier(sketch, x), small)
    early = barrier(sketch, base)
    assert [["sin_default"], ["sum_dim_int_list", "mul_tensor"]] == [
        part for part in parts(sketch.done(y=late, base=base, z=early)) if "host" not in part[0]
    ]


def test_what_is_held_instead_of_an_output_costs_nothing_more():
    sketch = Sketch()
    x = sketch.input("x")
    output = sketch.sin(barrier(sketch, x))
    late = sketch.op(aten.neg.default, barrier(sketch, barrier(sketch, x)))
    assert [["host"], ["host_1"], ["host_2"], ["sin_default", "neg_default"]] == parts(
        sketch.done(output=output, late=late)
    )


def test_a_size_that_only_data_decide_is_not_held_for_a_known_one():
    sketch = Sketch()
    x = sketch.input("x")
    (grown,) = sketch.host("tests.grow", x)
    total = sketch.op(aten.sum.dim_IntList, grown, [0], True)
    between = barrier(sketch, barrier(sketch, x))
    late = sketch.op(aten.mul.Tensor, between, total)
    names = parts(sketch.done(y=late))
    assert ["sum_dim_int_list"] in names


def test_a_segment_does_not_wait_where_it_would_hold_more():
    sketch = Sketch()
    x = sketch.input("x")
    first = barrier(sketch, x)
    # Only this op reads the host op's result, and what it gives is smaller.
    small = sketch.op(aten.sum.dim_IntList, first, [1], True)
    between = barrier(sketch, barrier(sketch, x))
    late = sketch.op(aten.mul.Tensor, between, small)
    assert [["host"], ["host_1"], ["sum_dim_int_list"], ["host_2"], ["mul_tensor"]] == parts(
        sketch.done(y=late)
    )


def test_ops_wait_for_the_earliest_of_their_readers_only():
    sketch = Sketch()
    x = sketch.input("x")
    shared = sketch.op(aten.neg.default, sketch.constant("w", torch.ones(SHAPE)))
    one = sketch.op(aten.mul.Tensor, barrier(sketch, x), shared)
    two = sketch.op(aten.mul.Tensor, barrier(sketch, one), shared)
    assert [["host"], ["neg_default", "mul_tensor"], ["host_1"], ["mul_tensor_1"]] == parts(
        sketch.done(y=two)
    )


def test_inside_a_loop_the_same_holds():
    sketch = Sketch()
    x, noise = sketch.input("x"), sketch.input("noise", (3, *SHAPE))

    def step(s: Sketch, carried: fx.Node, row: fx.Node) -> list[fx.Node]:
        scaled = s.op(aten.mul.Scalar, row, 0.5)
        return [s.add(barrier(s, s.sin(carried)), scaled)]

    sketch.body("step", step, SHAPE, SHAPE)
    (y,) = sketch.loop("step", 3, inits=[x], slices=[noise])
    program = sketch.done(y=y)
    judges = {"first": Judge(), "second": Judge()}
    placement = place(program, TWO, judges)
    cut = cut_graph(program.graphs["step"], placement)
    assert [["sin_default"], ["mul_scalar", "add_tensor"]] == [
        [n.name for n in part.nodes] for part in cut if isinstance(part, Part)
    ]
