"""Loops in plans: carries, slices, collected rows, loops in loops."""

from __future__ import annotations

import torch
from torch import fx

from partitioner.plan import Call, Loop

from .computing import calls, planned_and_run, the_loop
from .sketch import SHAPE, Sketch, aten


def test_a_loop_keeps_its_shape():
    sketch = Sketch()
    x, scale = sketch.input("x"), sketch.input("scale")
    rows = sketch.input("rows", (4, *SHAPE))

    def body(s: Sketch, carried: fx.Node, row: fx.Node, fixed: fx.Node) -> list[fx.Node]:
        moved = s.add(s.op(aten.mul.Tensor, carried, fixed), row)
        return [moved, s.sin(moved)]

    sketch.body("denoise", body, SHAPE, SHAPE, SHAPE)
    y, seen = sketch.loop("denoise", 4, inits=[x], slices=[rows], invariants=[scale])
    planned = planned_and_run(sketch.done(y=y, seen=seen))
    loop = the_loop(planned)
    assert ("denoise", 4) == (loop.name, loop.trips)
    (carry,) = loop.carries
    assert ("x", "denoise.in_0") == (carry.init, carry.inner)
    assert planned.plan.outputs["y"] == carry.final
    assert [("rows", "denoise.in_1")] == [(s.source, s.inner) for s in loop.slices]
    assert [planned.plan.outputs["seen"]] == [s.result for s in loop.stacked]
    (step,) = loop.body
    assert isinstance(step, Call)
    assert ("denoise.in_0", "scale", "denoise.in_1") == step.inputs


def test_next_values_may_be_anything_that_the_body_sees():
    """Carries that are swapped, a slice, an invariant, a constant, and one that stays."""
    sketch = Sketch()
    a, b, fixed = sketch.input("a"), sketch.input("b"), sketch.input("fixed")
    rows = sketch.input("rows", (3, *SHAPE))

    def body(s: Sketch, *given: fx.Node) -> list[fx.Node]:
        one, two, _, _, _, stays, row, invariant = given
        weight = s.constant("w", torch.full(SHAPE, 0.5))
        nexts = [two, one, row, invariant, weight, stays]
        return [*nexts, row, invariant, weight, one]

    sketch.body("shuffle", body, *([SHAPE] * 8))
    results = sketch.loop("shuffle", 3, inits=[a, b, a, a, a, b], slices=[rows], invariants=[fixed])
    program = sketch.done(**{f"r{i}": node for i, node in enumerate(results)})
    planned = planned_and_run(program)
    loop = the_loop(planned)
    assert () == loop.body
    inner = [carry.inner for carry in loop.carries]
    assert [inner[1], inner[0], loop.slices[0].inner, "fixed", "const.w", inner[5]] == [
        carry.next for carry in loop.carries
    ]


def test_results_that_nothing_takes_have_no_value():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a, b: [s.sin(a), s.add(a, b), a, b], SHAPE, SHAPE)
    _, kept, *_ = sketch.loop("step", 3, inits=[x, x])
    planned = planned_and_run(sketch.done(y=kept))
    loop = the_loop(planned)
    assert [True, False] == [carry.final is None for carry in loop.carries]
    assert () == loop.stacked


def test_a_result_may_be_taken_twice():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a: [s.sin(a), a], SHAPE)
    results = sketch.loop("step", 2, inits=[x], take=[0, 0, 1, 1])
    mixed = [sketch.host("tests.mix", results[0], results[1])[1]]
    planned = planned_and_run(
        sketch.done(a=results[0], b=results[1], c=results[2], d=results[3], e=mixed[0])
    )
    outputs = planned.plan.outputs
    assert (outputs["a"], outputs["c"]) == (outputs["b"], outputs["d"])


def test_one_value_may_start_two_carries_and_be_invariant_too():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a, b, c: [s.add(a, b), s.add(b, c)], SHAPE, SHAPE, SHAPE)
    one, two = sketch.loop("step", 3, inits=[x, x], invariants=[x])
    planned = planned_and_run(sketch.done(one=one, two=two))
    assert ["x", "x"] == [carry.init for carry in the_loop(planned).carries]


def test_loops_in_loops_read_outer_values_directly():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    sketch.body("inner", lambda s, a, b, c: [s.add(s.sin(a), s.add(b, c))], *([SHAPE] * 3))

    def outer(s: Sketch, carried: fx.Node, fixed: fx.Node) -> list[fx.Node]:
        twice = s.op(aten.neg.default, carried)
        return s.loop("inner", 2, inits=[carried], invariants=[twice, fixed])

    sketch.body("outer", outer, SHAPE, SHAPE)
    (z,) = sketch.loop("outer", 3, inits=[x], invariants=[y])
    planned = planned_and_run(sketch.done(z=z))
    assert ["[", "glue_step", "[", "glue_step_2", "]", "]"] == calls(planned)
    inner = the_loop(planned).body[1]
    assert isinstance(inner, Loop)
    assert ("inner", "outer.inner.in_0") == (inner.name, inner.carries[0].inner)
    (step,) = inner.body
    assert isinstance(step, Call)
    assert {"outer.inner.in_0", "outer.neg_default", "y"} == set(step.inputs)


def test_a_body_that_two_loops_share_is_compiled_once():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a: [s.sin(a)], SHAPE)
    (y,) = sketch.loop("step", 2, inits=[x])
    (z,) = sketch.loop("step", 5, inits=[y])
    planned = planned_and_run(sketch.done(z=z))
    assert ["[", "glue_step", "]", "[", "glue_step", "]"] == calls(planned)
    assert ["step", "step_2"] == [s.name for s in planned.plan.steps if isinstance(s, Loop)]
