"""Why plans are cut where they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from hypothesis import given
from torch import fx

from partitioner.planning.borders import Border, explain_borders
from partitioner.planning.plan import make_plan
from partitioner.planning.planned import Planned
from partitioner.program import Program
from partitioner.targets import Limits, Target
from tests.programs import programs

from .figures import ACCELERATED
from .sketch import SHAPE, TWO, Judge, Sketch, aten
from .test_random import SETTINGS

N = 512


def borders(
    program: Program,
    refused: Callable[[fx.Node], bool] | None = None,
    target: Target = TWO,
) -> list[Border]:
    return list(explain_borders(planned(program, refused, target), program, target))


def planned(
    program: Program,
    refused: Callable[[fx.Node], bool] | None = None,
    target: Target = TWO,
) -> Planned:
    return make_plan(program, target, {"first": Judge(refused), "second": Judge()})


def is_sine(node: fx.Node) -> bool:
    return "sin" in str(node.target)


def test_a_refused_node_is_named_with_its_line_and_the_reason():
    sketch = Sketch()
    x = sketch.op(aten.neg.default, sketch.input("x"))
    sketch.source = "m.py:7"
    y = sketch.sin(x)
    sketch.source = "m.py:8"
    before, after = borders(sketch.done(y=sketch.op(aten.neg.default, y)), is_sine)
    for border in (before, after):
        assert "rejected" == border.kind
        assert ("sin_default", "m.py:7", "first") == (border.node, border.source, border.backend)
        assert ("op-unsupported", "no aten.sin.default", 1) == (
            border.code,
            border.message,
            border.nodes,
        )
        assert "first rejects sin: op-unsupported: no aten.sin.default" == border.reason
        assert 24 == border.nbytes
    assert before.after == after.before


def test_a_loop_and_a_host_op_are_borders():
    sketch = Sketch()
    x = sketch.sin(sketch.input("x"))
    sketch.body("step", lambda s, a: [s.sin(a)], SHAPE)
    (y,) = sketch.loop("step", 3, inits=[x])
    (scaled,) = sketch.host("tests.scale", sketch.sin(y))
    kinds = [(b.kind, b.before, b.after) for b in borders(sketch.done(y=scaled))]
    assert [
        ("loop", "glue", "step"),
        # The ops before and after are the same, so they share a segment.
        ("loop", "step", "glue"),
        ("host-op", "glue", "scale"),
    ] == kinds


def test_borders_within_a_loop_are_explained_too():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a: [s.op(aten.neg.default, s.sin(a))], SHAPE)
    (y,) = sketch.loop("step", 3, inits=[x])
    (border,) = borders(sketch.done(y=y), is_sine)
    assert "rejected" == border.kind


def test_what_is_called_from_several_places_is_shared():
    sketch = Sketch()
    sketch.body("twice", lambda s, a: [s.op(aten.mul.Tensor, s.sin(a), a)], SHAPE)
    (a,) = sketch.call("twice", sketch.op(aten.neg.default, sketch.input("x")))
    (b,) = sketch.call("twice", sketch.op(aten.neg.default, a))
    found = borders(sketch.done(y=b))
    assert {"shared"} == {border.kind for border in found}
    assert "twice is run from several places and compiled once" == found[0].reason


def test_a_limit_is_told_with_its_figures():
    sketch = Sketch()
    x = sketch.input("x")
    for _ in range(6):
        x = sketch.sin(x)
    limited = dataclasses.replace(TWO, limits={"first": Limits(instructions=4)})
    (border,) = borders(sketch.done(y=x), target=limited)
    assert "limit" == border.kind
    assert "instructions: 6 needed, 4 allowed" in border.reason


def test_what_is_cheaper_elsewhere_is_told_with_both_times():
    sketch = Sketch()
    x, small = sketch.input("x", (N, N)), sketch.input("small")
    weight = sketch.constant("w", torch.ones(N, N))
    for _ in range(4):
        x = sketch.op(aten.mm.default, x, weight)
    # Not worth bringing it to the accelerator.
    (border,) = borders(sketch.done(y=x, z=sketch.sin(small)), target=ACCELERATED)
    assert "cheaper" == border.kind
    assert border.reason.startswith("first could take its node of glue")
    assert "0.0024 us on second" in border.reason


@given(programs())
@SETTINGS
def test_every_border_has_a_reason(program: Program):
    made = planned(program, is_sine)
    found = explain_borders(made, program, TWO)
    assert all(border.reason for border in found)
    assert all(border.source == "" or border.kind == "rejected" for border in found)
    for border in found:
        if border.kind == "rejected":
            backends = {made.plan.segments[name].backend for name in (border.before, border.after)}
            assert {"first", "second"} == backends
