"""What is not on the preferred backend, why, and what it costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import fx

from partitioner.backends.base import CODES, Rejected, Supported, Verdict
from partitioner.planning.estimate import estimate_plan
from partitioner.planning.fallbacks import ADVICE, CHEAPER, Fallback, find_fallbacks
from partitioner.planning.plan import make_plan
from partitioner.program import Program
from partitioner.targets import Target
from tests.programs import programs

from .figures import ACCELERATED
from .sketch import SHAPE, TWO, Judge, Sketch, aten
from .test_random import SETTINGS

N = 512


class Advising(Judge):
    """Refuses sines and knows a way out."""

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        if "sin" not in str(node.target):
            return Supported()
        return Rejected("dtype", "no sine in float32", node.meta["source"], "use a table")


def fallbacks(program: Program, target: Target = TWO, first: Judge | None = None) -> list[Fallback]:
    first = first or Judge(lambda node: "sin" in str(node.target))
    planned = make_plan(program, target, {"first": first, "second": Judge()})
    estimate = estimate_plan(planned, program, target)
    return list(find_fallbacks(planned, program, target, estimate))


def test_nothing_falls_back():
    sketch = Sketch()
    assert [] == fallbacks(sketch.done(y=sketch.op(aten.neg.default, sketch.input("x"))))


def test_nodes_of_one_line_and_reason_are_one_entry():
    sketch = Sketch()
    x = sketch.op(aten.neg.default, sketch.input("x"))
    sketch.source = "m.py:4"
    x = sketch.sin(sketch.sin(x))
    sketch.source = "m.py:9"
    x = sketch.op(aten.neg.default, sketch.sin(sketch.op(aten.neg.default, x)))
    found = {fallback.source: fallback for fallback in fallbacks(sketch.done(y=x))}
    assert {"m.py:4", "m.py:9"} == set(found)
    assert {"sin": 2} == found["m.py:4"].ops
    assert ("second", "first") == (found["m.py:4"].backend, found["m.py:4"].preferred)
    assert ("op-unsupported", "no aten.sin.default") == (
        found["m.py:4"].code,
        found["m.py:4"].message,
    )
    assert ADVICE["op-unsupported"] == found["m.py:4"].advice
    # Of six ops, each with six elements.
    assert (12, pytest.approx(2 / 6)) == (found["m.py:4"].operations, found["m.py:4"].share)


def test_the_backends_own_advice_counts_more():
    sketch = Sketch()
    (found,) = fallbacks(sketch.done(y=sketch.sin(sketch.input("x"))), first=Advising())
    assert ("dtype", "use a table") == (found.code, found.advice)


def test_operations_of_a_loop_count_by_its_trips():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("step", lambda s, a: [s.op(aten.neg.default, s.sin(a))], SHAPE)
    (y,) = sketch.loop("step", 5, inits=[x])
    (found,) = fallbacks(sketch.done(y=y))
    assert 30 == found.operations
    assert pytest.approx(0.5) == found.share


def test_the_cost_is_the_slower_device_and_the_way_there():
    sketch = Sketch()
    x = sketch.input("x", (N, N))
    weight = sketch.constant("w", torch.ones(N, N))
    for _ in range(6):
        x = sketch.op(aten.mm.default, x, weight)
    x = sketch.sin(x)
    for _ in range(6):
        x = sketch.op(aten.mm.default, x, weight)
    (found,) = fallbacks(sketch.done(y=x), ACCELERATED)
    nbytes = 4 * N * N
    here, there = nbytes / 1e10, nbytes / 1e11
    # There and back, and a call.
    ways = 2 * (1e-5 + nbytes / 1e10) + 1e-6
    assert pytest.approx(here - there + ways) == found.seconds


def test_every_code_has_advice():
    assert {*CODES, CHEAPER} == set(ADVICE)


@given(programs())
@SETTINGS
def test_every_node_elsewhere_is_in_one_entry(program: Program):
    judges = {"first": Judge(lambda node: "sin" in str(node.target)), "second": Judge()}
    planned = make_plan(program, TWO, judges)
    found = find_fallbacks(planned, program, TWO, None)
    elsewhere = {
        node
        for node, backend in planned.placement.backends.items()
        if backend != "first" and "getitem" not in node.name
    }
    assert len(elsewhere) == sum(sum(fallback.ops.values()) for fallback in found)
    assert sum(fallback.share for fallback in found) <= 1 + 1e-9
