"""Plans of programs written by hand: what goes in and out of the steps, and what they compute."""

from __future__ import annotations

import torch

from partitioner.plan import Call, Draw, DrawGroup
from partitioner.planning.tables import HostCall
from partitioner.program import DrawOp, DrawSequence

from .computing import calls, planned_and_run
from .sketch import SHAPE, Sketch, aten, plan

# --- outputs ------------------------------------------------------------------------------------


def test_an_output_may_be_an_input_or_a_constant_or_twice_the_same():
    sketch = Sketch()
    x = sketch.input("x")
    weight = sketch.constant("w", torch.ones(SHAPE))
    planned = planned_and_run(sketch.done(same=x, fixed=weight, again=x))
    assert () == planned.plan.steps
    assert {"same": "x", "fixed": "const.w", "again": "x"} == planned.plan.outputs
    assert {"const.w": "w"} == planned.constants


def test_what_no_output_needs_is_not_planned_and_nobody_is_asked_about_it():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.source = "m.py:9"
    sketch.host("tests.scale", sketch.sin(x))
    sketch.source = "m.py:1"
    y = sketch.op(aten.neg.default, x)
    sketch.body("step", lambda s, a: [s.sin(a)], SHAPE)
    sketch.loop("step", 2, inits=[y])
    planned = planned_and_run(sketch.done(y=y), second=lambda n: n.meta["source"] == "m.py:9")
    assert ["glue"] == calls(planned)
    assert {"m.py:1"} == {n.meta["source"] for n in planned.placement.backends}


def test_ops_that_depend_on_nothing_work():
    sketch = Sketch()
    sketch.input("x")
    full = sketch.op(aten.full.default, [2, 3], 0.5, dtype=torch.float32)
    planned = planned_and_run(sketch.done(full=full, sine=sketch.sin(full)))
    (segment,) = planned.plan.segments.values()
    assert () == segment.inputs
    assert 2 == len(segment.outputs)


def test_what_only_dead_nodes_read_is_no_output():
    sketch = Sketch()
    x = sketch.input("x")
    y = sketch.sin(x)
    dead = sketch.host("tests.scale", y)
    sketch.add(dead[0], y)
    planned = planned_and_run(sketch.done(z=sketch.op(aten.neg.default, y)))
    (step,) = planned.plan.steps
    assert isinstance(step, Call)
    assert ("neg_default",) == step.outputs


# --- operands -----------------------------------------------------------------------------------


def test_a_constant_belongs_to_every_segment_that_reads_it():
    sketch = Sketch()
    x = sketch.input("x")
    weight = sketch.constant("w", torch.full(SHAPE, 0.5))
    before = sketch.add(x, weight)
    (between,) = sketch.host("tests.scale", before)
    after = sketch.op(aten.mul.Tensor, between, weight)
    planned = planned_and_run(sketch.done(y=after))
    assert {} == planned.constants
    assert ["glue", "scale", "glue_2"] == calls(planned)
    for name in ("glue", "glue_2"):
        graph = planned.segments[name].graph  # pyright: ignore
        assert ["w"] == [n.target for n in graph.nodes if n.op == "get_attr"]


def test_a_constant_that_a_structural_op_reads_is_a_value():
    sketch = Sketch()
    table = sketch.constant("table", torch.arange(18.0).reshape(3, *SHAPE))
    start = sketch.constant("start", torch.ones(SHAPE))
    sketch.body("step", lambda s, c, row: [s.add(c, row)], SHAPE, SHAPE)
    (y,) = sketch.loop("step", 3, inits=[start], slices=[table])
    (z,) = sketch.host("tests.scale", start)
    planned = planned_and_run(sketch.done(y=y, z=z))
    assert {"const.table": "table", "const.start": "start"} == planned.constants
    assert ("const.start", "const.table") == tuple(sorted(planned.plan.constants))


def test_results_of_one_op_stay_with_it():
    sketch = Sketch()
    x = sketch.input("x")
    node = sketch.op(aten.sort.stable, x, stable=True, dim=1, descending=False)
    values, order = sketch.item(node, 0), sketch.item(node, 1)
    (between,) = sketch.host("tests.scale", values)
    # The second result is needed only after the host op, and the first one once more.
    late = sketch.op(aten.gather.default, between, 1, order)
    planned = planned_and_run(sketch.done(y=sketch.add(late, sketch.item(node, 0))))
    first, _, last = planned.plan.steps
    assert isinstance(first, Call)
    assert isinstance(last, Call)
    assert ("getitem", "getitem_1", "getitem_3") == first.outputs


# --- host ops and draws -------------------------------------------------------------------------


def test_host_ops_are_segments_by_name_options_and_types():
    sketch = Sketch()
    x = sketch.input("x")
    total, product = sketch.host("tests.mix", x, x)
    (twice,) = sketch.host("tests.scale", product, by=2.0)
    (again,) = sketch.host("tests.scale", twice, by=2.0)
    (third,) = sketch.host("tests.scale", again, by=3.0)
    planned = planned_and_run(sketch.done(y=third, total=total))
    assert ["mix", "scale", "scale", "scale_2"] == calls(planned)
    assert HostCall("tests.scale", {"by": 3.0}) == planned.segments["scale_2"]
    info = planned.plan.segments["mix"]
    assert ("host", ["input_0", "input_1"]) == (info.backend, [n for n, _ in info.inputs])
    assert ["sum", "product"] == [n for n, _ in info.outputs]


def test_draws_become_values_and_stay_even_where_nothing_reads_them():
    sketch = Sketch()
    x, start = sketch.input("x"), sketch.input("start")
    unread, steps = sketch.input("unread"), sketch.input("steps", (3, *SHAPE))
    sketch.body("step", lambda s, a, row: [s.add(a, row)], SHAPE, SHAPE)
    (y,) = sketch.loop("step", 3, inits=[sketch.add(x, start)], slices=[steps])
    draws = (
        DrawSequence(
            1,
            (DrawOp(start.name, "normal", (0.0, 1.0)), DrawOp(unread.name, "uniform", (0.0, 1.0))),
        ),
        DrawSequence(3, (DrawOp(steps.name, "normal", (0.0, 2.0), 1, row=True),)),
    )
    planned = planned_and_run(sketch.done(draws, y=y))
    assert {"x": "x"} == planned.plan.inputs
    assert (
        DrawGroup(
            1,
            (
                Draw("start", "normal", (0.0, 1.0)),
                Draw("unread", "uniform", (0.0, 1.0)),
            ),
        ),
        DrawGroup(3, (Draw("steps", "normal", (0.0, 2.0), row=True, stream=1),)),
    ) == planned.plan.draws


# --- size ---------------------------------------------------------------------------------------


def test_depth_costs_no_recursion():
    sketch = Sketch()
    x = sketch.input("x")
    for _ in range(3000):
        x = sketch.op(aten.sin.default, x)
    planned = plan(sketch.done(y=x))
    assert ["glue"] == calls(planned)
