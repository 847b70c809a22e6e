"""Seconds, memory and prices of plans, against figures worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given

from partitioner.planning.estimate import PlanEstimate, estimate_plan
from partitioner.planning.plan import make_plan
from partitioner.planning.planned import Planned
from partitioner.planning.scale import Scale
from partitioner.program import Program
from partitioner.targets import Device, Price, Target
from tests.programs import programs

from .sketch import TWO, Judge, Sketch, aten
from .test_random import SETTINGS

N = 64

#: One copy, round figures: 1e12 operations a second in products, 1e9 bytes a second.
FAR = Device(
    "far", ("first",), 1, 3, 2**20, 1e9, {"float32": 1e12}, 1e10, {"first": 0.5}, 1e6, 0.25
)
CPU = Device(
    "cpu",
    ("second", "host"),
    2,
    3,
    2**30,
    1e8,
    {"float32": 1e10},
    1e9,
    {"second": 0.125, "host": 0.125},
)
PRICE = Price(7.2, "USD", "2026-01-02", "a list", "on demand")
TARGET = dataclasses.replace(TWO, devices=(FAR, CPU), price=PRICE, instance="far.large")


def planned(program: Program, target: Target = TARGET, scale: Scale | None = None) -> Planned:
    """With sines on the second backend only, and all else on the first only."""
    judges = {
        "first": Judge(lambda node: "sin" in str(node.target)),
        "second": Judge(lambda node: "sin" not in str(node.target)),
    }
    return make_plan(program, target, judges, scale)


def estimated(program: Program, target: Target = TARGET) -> PlanEstimate:
    found = estimate_plan(planned(program, target), program, target)
    assert found is not None
    return found


def product() -> Program:
    sketch = Sketch()
    x = sketch.input("x", (N, N))
    return sketch.done(y=sketch.op(aten.mm.default, x, sketch.constant("w", torch.ones(N, N))))


def looped(trips: int) -> Program:
    """Products in a loop, with an operand that stays."""
    sketch = Sketch()
    x, stays = sketch.input("x", (N, N)), sketch.input("stays", (N, N))
    sketch.body(
        "step",
        lambda s, a, b: [s.op(aten.mm.default, s.op(aten.mm.default, a, b), b)],
        *[(N, N)] * 2,
    )
    (y,) = sketch.loop("step", trips, inits=[x], invariants=[stays])
    return sketch.done(y=y)


SIDE = 4 * N * N


def test_a_product_is_as_the_roofline_has_it():
    found = estimated(product())
    (segment,) = found.segments
    assert ("first", "far", 1) == (segment.backend, segment.device, segment.calls)
    assert 2 * N**3 == segment.operations
    assert SIDE == segment.weight_bytes
    # Operand, weight and result, and the operand again over the border, at 1e9 bytes a second;
    # arithmetic takes a hundredth of it.
    assert pytest.approx(4 * SIDE / 1e9) == segment.memory_s
    assert 0 == segment.compute_s
    assert 0.5 == segment.call_s
    transfer = 0.25 + SIDE / 1e6
    assert ["x", "mm_default"] == [t.crossing.value for t in found.transfers]
    assert pytest.approx(segment.seconds + 2 * transfer) == found.seconds


def test_arithmetic_that_takes_longer_than_memory_is_told_apart():
    slow = dataclasses.replace(FAR, flops={"float32": 1e6})
    (segment,) = estimated(product(), dataclasses.replace(TARGET, devices=(slow, CPU))).segments
    assert pytest.approx(2 * N**3 / 1e6) == segment.compute_s
    assert pytest.approx(SIDE / 1e9) == segment.memory_s


def test_figures_are_of_what_is_sustained():
    half = dataclasses.replace(FAR, efficiency=0.5)
    (segment,) = estimated(product(), dataclasses.replace(TARGET, devices=(half, CPU))).segments
    assert pytest.approx(4 * SIDE / 0.5e9) == segment.memory_s


def test_measured_factors_count():
    program, scale = product(), Scale({"main": {"mm_default": {"first": 10.0}}})
    made = planned(program, scale=scale)
    plain, scaled = (
        estimate_plan(made, program, TARGET),
        estimate_plan(made, program, TARGET, scale),
    )
    assert plain is not None
    assert scaled is not None
    border = SIDE / 1e9
    (one,), (other,) = plain.segments, scaled.segments
    assert pytest.approx(10 * (one.memory_s - border) + border) == other.memory_s


def test_a_loop_counts_its_body_by_trips_and_what_stays_is_brought_once():
    five, ten = estimated(looped(5)), estimated(looped(10))
    assert [5] == [s.calls for s in five.segments]
    # Two come in, and the last trip's result goes out.
    assert [("x", 1), ("stays", 1), ("step.mm_default_1", 1)] == [
        (t.crossing.value, t.crossing.times) for t in five.transfers
    ]
    (segment,) = five.segments
    assert pytest.approx(5 * segment.seconds) == ten.seconds - five.seconds


def test_the_bottleneck_and_its_copies_make_the_rate_and_the_price():
    found = estimated(product())
    assert "far" == found.bottleneck
    far = next(d for d in found.devices if d.name == "far")
    assert pytest.approx(found.seconds) == far.busy_s
    assert pytest.approx(3 / far.busy_s) == found.requests_s
    assert found.price is not None
    assert pytest.approx(7.2 / 3600 * far.busy_s / 3 * 1e6) == found.price.per_million
    assert ("USD", "2026-01-02", "a list") == (
        found.price.currency,
        found.price.date,
        found.price.source,
    )


def test_without_a_price_it_says_so():
    found = estimated(product(), dataclasses.replace(TARGET, price=None))
    assert found.price is None
    assert "no price of far.large is known" in found.no_price


def test_a_target_without_figures_has_no_estimate():
    program = product()
    assert estimate_plan(planned(program, TWO), program, TWO) is None


def test_weights_are_held_once_and_values_while_they_live():
    sketch = Sketch()
    x = sketch.input("x", (N, N))
    weight = sketch.constant("w", torch.ones(N, N))
    y = sketch.op(aten.mm.default, x, weight)
    z = sketch.op(aten.mm.default, sketch.sin(y), weight)
    found = estimated(sketch.done(z=z))
    far, cpu = ({d.name: d for d in found.devices}[name].memory for name in ("far", "cpu"))
    # Two segments read the same weight; beside it x, and one product with its operand at a time.
    assert (SIDE, SIDE, 2 * SIDE) == (far.weights, far.given, far.values)
    assert (0, SIDE) == (cpu.weights, cpu.given)
    assert all(d.fits for d in found.devices)


def test_what_does_not_fit_is_said():
    small = dataclasses.replace(FAR, memory_bytes=SIDE)
    found = estimated(product(), dataclasses.replace(TARGET, devices=(small, CPU)))
    assert [("far", False), ("cpu", True)] == [(d.name, d.fits) for d in found.devices]


def test_what_is_not_known_is_named():
    sketch = Sketch()
    grown = sketch.host("tests.grow", sketch.input("x"))
    found = estimated(sketch.done(y=grown[0]))
    assert "the time of host ops: tests.grow" == found.unknown[0]
    assert "only the data decide" in found.unknown[1]


@given(programs())
@SETTINGS
def test_parts_add_up(program: Program):
    made = make_plan(program, TARGET, {"first": Judge(), "second": Judge()})
    found = estimate_plan(made, program, TARGET)
    assert found is not None
    segments = sum(s.calls * s.seconds for s in found.segments)
    assert pytest.approx(segments + sum(t.seconds for t in found.transfers)) == found.seconds
    assert {s.name for s in found.segments} == set(made.plan.segments)
    assert all(s.calls >= 1 for s in found.segments)
    assert all(t.crossing.start != t.crossing.end for t in found.transfers)
    assert all(d.memory.total >= 0 for d in found.devices)
