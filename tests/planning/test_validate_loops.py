"""The validator on loops: each rule is seen to refuse a plan that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from partitioner.planning.planned import Planned
from partitioner.program import Program
from partitioner.specs import TensorSpec

from .edits import change, refusal, with_loop, with_plan
from .sketch import SHAPE


def test_a_loop_without_trips(program: Program, planned: Planned):
    bad = with_loop(planned, lambda loop: change(loop, trips=0))
    assert "loop 'step' makes 0 trips" == refusal(program, bad)


def test_a_loop_that_starts_with_nothing(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, carries=(change(loop.carries[0], init="nowhere"),))
    )
    assert "loop 'step' reads 'nowhere' before it is written" == refusal(program, bad)


def test_a_slice_of_nothing(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, slices=(change(loop.slices[0], source="nowhere"),))
    )
    assert "loop 'step' reads 'nowhere' before it is written" == refusal(program, bad)


def test_a_next_value_that_is_never_written(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, carries=(change(loop.carries[0], next="nowhere"),))
    )
    assert "loop 'step' reads 'nowhere' before it is written" == refusal(program, bad)


def test_a_collected_value_that_is_never_written(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, stacked=(change(loop.stacked[0], inner="nowhere"),))
    )
    assert "loop 'step' reads 'nowhere' before it is written" == refusal(program, bad)


def test_a_carried_value_over_an_outer_one(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, carries=(change(loop.carries[0], inner="x"),))
    )
    assert "loop 'step' writes 'x' a second time" == refusal(program, bad)


def test_a_final_value_over_one_of_the_body(program: Program, planned: Planned):
    loop: Any = planned.plan.steps[2]
    bad = with_loop(
        planned,
        lambda loop: change(loop, carries=(change(loop.carries[0], final=loop.carries[0].next),)),
    )
    assert f"loop 'step' writes '{loop.carries[0].next}' a second time" == refusal(program, bad)


def test_carried_values_of_different_types(program: Program, planned: Planned):
    loop: Any = planned.plan.steps[2]
    values = {**planned.plan.values, loop.carries[0].final: TensorSpec("float32", (9,))}
    bad = with_plan(planned, values=values)
    assert refusal(program, bad).startswith("loop 'step' carries values of different types")


@pytest.mark.parametrize(("kind", "rows"), [("slice", 2), ("stacked", 2), ("stacked", 4)])
def test_rows_that_do_not_fit(kind: str, rows: int, program: Program, planned: Planned):
    loop: Any = planned.plan.steps[2]
    whole = loop.slices[0].source if kind == "slice" else loop.stacked[0].result
    values = {**planned.plan.values, whole: TensorSpec("float32", (rows, *SHAPE))}
    text = refusal(program, with_plan(planned, values=values))
    assert text.startswith("loop 'step' has 3 rows ")
    assert text.endswith(f"in {whole!r}, which is float32[{rows}, 2, 3]")
