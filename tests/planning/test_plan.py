"""Plans of programs written by hand: what the steps are, and that they compute the same."""

from __future__ import annotations

import torch
from torch import fx

from partitioner.interpreter import run_program
from partitioner.plan import Call, Draw, DrawGroup, Loop
from partitioner.planning.plan import HostCall, Planned
from partitioner.program import DrawOp, DrawSequence, Program

from .simulate import random_inputs, run_by_runtime, simulate
from .sketch import SHAPE, Sketch, aten, plan


def planned_and_run(program: Program, **options: object) -> Planned:
    """A plan that has been seen to compute what the program does."""
    planned = plan(program, **options)  # pyright: ignore
    inputs = random_inputs(program)
    expected = run_program(program, inputs)
    for run in (simulate, run_by_runtime):
        actual = run(planned, program, inputs)
        assert list(expected) == list(actual)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=0, atol=0)
    return planned


def calls(planned: Planned) -> list[str]:
    """Segments in the order of their calls, loops' bodies in brackets."""
    return _calls(planned.plan.steps)


def _calls(steps: tuple[Call | Loop, ...]) -> list[str]:
    made: list[str] = []
    for step in steps:
        if isinstance(step, Loop):
            made += ["[", *_calls(step.body), "]"]
        else:
            made.append(step.segment)
    return made


def the_loop(planned: Planned) -> Loop:
    (found,) = [step for step in planned.plan.steps if isinstance(step, Loop)]
    return found


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


# --- loops --------------------------------------------------------------------------------------


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


# --- sharing ------------------------------------------------------------------------------------


def test_a_stage_called_from_a_loop_and_beside_it_is_one_segment():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.stage = "denoiser"
    sketch.body("denoiser", lambda s, a: [s.sin(s.op(aten.mul.Tensor, a, a))], SHAPE)
    sketch.stage = ""

    def step(s: Sketch, a: fx.Node) -> list[fx.Node]:
        return [s.op(aten.sub.Tensor, a, s.call("denoiser", a)[0])]

    sketch.body("step", step, SHAPE)
    (peeled,) = sketch.call("denoiser", x)
    (y,) = sketch.loop("step", 3, inits=[sketch.op(aten.neg.default, peeled)])
    (z,) = sketch.call("denoiser", y)
    planned = planned_and_run(sketch.done(z=z))
    assert ["denoiser", "glue", "[", "denoiser", "glue_step", "]", "denoiser"] == calls(planned)
    assert ("denoiser",) == planned.plan.segments["denoiser"].stages


def test_a_sub_graph_may_hand_its_input_or_a_constant_through():
    sketch = Sketch()
    x = sketch.input("x")

    def through(s: Sketch, a: fx.Node, b: fx.Node) -> list[fx.Node]:
        return [b, s.constant("w", torch.ones(SHAPE)), a, b]

    sketch.body("through", through, SHAPE, SHAPE)
    results = sketch.call("through", x, sketch.sin(x))
    again = sketch.call("through", results[0], results[1])
    planned = planned_and_run(sketch.done(a=results[0], b=again[1], c=again[2], d=again[0]))
    assert ["glue"] == calls(planned)
    assert ["sin_default", "const.w", "sin_default", "const.w"] == list(
        planned.plan.outputs.values()
    )


def test_equal_parts_are_one_segment_and_it_knows_all_their_places():
    sketch = Sketch()
    x = sketch.input("x")
    for index, stage in enumerate(["first", "second.norm"]):
        sketch.stage, sketch.source = stage, f"m.py:{index}"
        x = sketch.sin(sketch.op(aten.mul.Scalar, x, 0.5))
        sketch.stage, sketch.source = "", "m.py:7"
        (x,) = sketch.host("tests.scale", x)
    planned = planned_and_run(sketch.done(y=x))
    assert ["first", "scale", "first", "scale"] == calls(planned)
    info = planned.plan.segments["first"]
    assert (("first", "second"), ("m.py:0", "m.py:1")) == (info.stages, info.sources)
    assert 2 == info.nodes


def test_parts_that_differ_in_anything_are_apart():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    one = sketch.constant("one", torch.ones(SHAPE))
    also_one = sketch.constant("also_one", torch.ones(SHAPE))
    variants = [
        lambda: sketch.op(aten.sub.Tensor, x, y),
        lambda: sketch.op(aten.sub.Tensor, x, y, alpha=2),
        lambda: sketch.op(aten.sub.Tensor, x, y, alpha=2.0),
        lambda: sketch.op(aten.sub.Tensor, x, x),
        lambda: sketch.op(aten.sub.Tensor, x, one),
        lambda: sketch.op(aten.sub.Tensor, x, also_one),
        lambda: sketch.op(aten.mul.Scalar, x, 0.0),
        lambda: sketch.op(aten.mul.Scalar, x, -0.0),
        lambda: sketch.op(aten.mul.Scalar, x, float("nan")),
    ]
    for variant in variants:
        (x,) = sketch.host("tests.scale", variant())
    planned = plan(sketch.done(y=x))
    assert len(variants) + 1 == len(planned.segments)


def test_parts_that_give_other_results_of_the_same_nodes_are_apart():
    sketch = Sketch()
    x, y = sketch.input("x"), sketch.input("y")
    one = sketch.sin(x)
    (two,) = sketch.host("tests.scale", sketch.op(aten.neg.default, one))
    three = sketch.sin(two)
    (four,) = sketch.host("tests.scale", sketch.op(aten.neg.default, three))
    (four,) = sketch.host("tests.mix", four, three)[:1]
    planned = planned_and_run(sketch.done(z=four, y=y))
    assert ["glue", "scale", "glue_2", "scale", "mix"] == calls(planned)


def test_the_same_op_on_another_backend_is_another_segment():
    sketch = Sketch()
    x = sketch.input("x")
    for source in ("m.py:1", "m.py:2", "m.py:1"):
        sketch.source = source
        x = sketch.sin(x)
    planned = planned_and_run(sketch.done(y=x), second=lambda n: n.meta["source"] == "m.py:2")
    assert ["glue", "glue_2", "glue"] == calls(planned)
    assert ["first", "second"] == [s.backend for s in planned.plan.segments.values()]


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


# --- names --------------------------------------------------------------------------------------


def test_segments_are_called_after_their_stages():
    sketch = Sketch()
    x = sketch.input("x")
    for stage in ("encoder.conv", "decoder.up", "decoder.up", "text-encoder", ""):
        sketch.stage = stage
        x = sketch.op(aten.mul.Scalar, x, 0.5 + len(sketch.graph.nodes))
        sketch.stage = ""
        (x,) = sketch.host("tests.scale", x)
    for stage in ("a", "b.x", "c", "d"):
        sketch.stage = stage
        x = sketch.sin(x)
    planned = planned_and_run(sketch.done(y=x))
    named = [name for name in planned.plan.segments if name != "scale"]
    assert ["encoder", "decoder", "decoder_2", "text_encoder", "glue", "a_b_c"] == named
    assert ("a", "b", "c", "d") == planned.plan.segments["a_b_c"].stages


def test_a_segment_names_a_few_of_its_lines():
    sketch = Sketch()
    x = sketch.input("x")
    for line in [1, 1, 2, 3, 3, 4, 5, 6, 7]:
        sketch.source = f"m.py:{line}"
        x = sketch.sin(x)
    (info,) = plan(sketch.done(y=x)).plan.segments.values()
    assert ("m.py:1", "m.py:2", "m.py:3", "m.py:4", "m.py:5") == info.sources
    assert 9 == info.nodes


def test_a_name_that_a_stage_takes_from_a_count_stays_unique():
    sketch = Sketch()
    x = sketch.input("x")
    for stage in ("unet_2", "unet", "unet", "unet_2"):
        sketch.stage = stage
        x = sketch.op(aten.mul.Scalar, x, 0.5 + len(sketch.graph.nodes))
        (x,) = sketch.host("tests.scale", x)
    planned = planned_and_run(sketch.done(y=x))
    named = [name for name in planned.plan.segments if name != "scale"]
    assert ["unet_2", "unet", "unet_3", "unet_2_2"] == named


# --- size ---------------------------------------------------------------------------------------


def test_depth_costs_no_recursion():
    sketch = Sketch()
    x = sketch.input("x")
    for _ in range(3000):
        x = sketch.op(aten.sin.default, x)
    planned = plan(sketch.done(y=x))
    assert ["glue"] == calls(planned)
