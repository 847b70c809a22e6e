"""A program with a loop and a host op, on two backends, and the sound plan of it."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from partitioner.planning.planned import Planned
from partitioner.program import DrawOp, DrawSequence, Program

from .edits import refused_by_first
from .sketch import SHAPE, Sketch, aten, plan


@pytest.fixture
def program() -> Program:
    """glue, host op ``mix``, a loop of ``glue_step``, and ``glue_2`` on the second backend."""
    sketch = Sketch()
    x, noise = sketch.input("x"), sketch.input("noise", (3, *SHAPE))
    weight = sketch.constant("w", torch.full(SHAPE, 0.5))

    def step(s: Sketch, carried: fx.Node, row: fx.Node, fixed: fx.Node) -> list[fx.Node]:
        moved = s.op(aten.sub.Tensor, carried, s.op(aten.mul.Tensor, row, fixed))
        return [moved, s.sin(moved)]

    sketch.body("step", step, SHAPE, SHAPE, SHAPE)
    start = sketch.add(sketch.sin(x), weight)
    total, product = sketch.host("tests.mix", start, x)
    y, seen = sketch.loop("step", 3, inits=[total], slices=[noise], invariants=[product])
    sketch.source = "second"
    last = sketch.op(aten.sub.Tensor, y, total)
    draws = (DrawSequence(3, (DrawOp("noise", "normal", (0.0, 1.0), row=True),)),)
    return sketch.done(draws, y=last, seen=seen)


@pytest.fixture
def planned(program: Program) -> Planned:
    made = plan(program, refused_by_first)
    assert ["glue", "mix", "glue_step", "glue_2"] == list(made.segments)
    return made
