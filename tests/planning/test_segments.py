"""Segments of plans: which parts share one, and what they are called."""

from __future__ import annotations

import torch
from torch import fx

from .computing import calls, planned_and_run
from .sketch import SHAPE, Sketch, aten, plan

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
