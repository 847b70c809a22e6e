"""The validator: a sound plan passes, and each rule refuses values that break it."""

from __future__ import annotations

import pytest
import torch

from partitioner.errors import ProgramError
from partitioner.planning.planned import Planned
from partitioner.planning.validate import validate_plan
from partitioner.program import Program
from partitioner.specs import TensorSpec
from partitioner.targets import Limits

from .edits import JUDGES, change, refusal, refused_by_first, with_plan, with_step
from .sketch import SHAPE, TWO, Judge, Sketch, plan


def test_a_sound_plan_passes(program: Program, planned: Planned):
    validate_plan(program, planned, TWO, JUDGES)


def test_make_plan_always_asks(program: Program, monkeypatch: pytest.MonkeyPatch):
    asked: list[Planned] = []
    monkeypatch.setattr(
        "partitioner.planning.plan.validate_plan",
        lambda program, planned, target, judges: asked.append(planned),
    )
    assert [plan(program)] == asked


# --- values -------------------------------------------------------------------------------------


def test_steps_in_another_order(program: Program, planned: Planned):
    one, two, *rest = planned.plan.steps
    bad = with_plan(planned, steps=(two, one, *rest))
    assert "segment 'mix' reads 'add_tensor' before it is written" == refusal(program, bad)


def test_a_step_twice(program: Program, planned: Planned):
    one, *rest = planned.plan.steps
    bad = with_plan(planned, steps=(one, one, *rest))
    assert "segment 'glue' writes 'add_tensor' a second time" == refusal(program, bad)


def test_a_step_missing(program: Program, planned: Planned):
    bad = with_plan(planned, steps=planned.plan.steps[:-1])
    assert "an output reads 'sub_tensor' before it is written" == refusal(program, bad)


def test_a_value_of_the_body_read_behind_the_loop(program: Program, planned: Planned):
    inner = planned.plan.steps[2].carries[0].inner  # pyright: ignore
    bad = with_step(planned, 3, lambda call: change(call, inputs=(inner, call.inputs[1])))
    assert f"segment 'glue_2' reads '{inner}' before it is written" == refusal(program, bad)


def test_a_value_that_a_body_writes_written_again_outside(program: Program, planned: Planned):
    inner = planned.plan.steps[2].carries[0].inner  # pyright: ignore
    bad = with_step(planned, 3, lambda call: change(call, outputs=(inner,)))
    assert f"segment 'glue_2' writes '{inner}' a second time" == refusal(program, bad)


def test_an_input_written_by_a_step(program: Program, planned: Planned):
    bad = with_step(planned, 0, lambda call: change(call, outputs=("x",)))
    assert "segment 'glue' writes 'x' a second time" == refusal(program, bad)


def test_a_value_without_type(program: Program, planned: Planned):
    values = {k: v for k, v in planned.plan.values.items() if k != "add_tensor"}
    bad = with_plan(planned, values=values)
    assert "segment 'glue' writes 'add_tensor', which has no type" == refusal(program, bad)


def test_a_value_that_nothing_writes(program: Program, planned: Planned):
    values = {**planned.plan.values, "ghost": TensorSpec("float32", (1,))}
    bad = with_plan(planned, values=values)
    assert "the values ['ghost'] are never written" == refusal(program, bad)


def test_a_call_of_nothing(program: Program, planned: Planned):
    bad = with_step(planned, 0, lambda call: change(call, segment="gone"))
    assert "segment 'gone' is called, but there is none of this name" == refusal(program, bad)


def test_a_call_with_too_few_values(program: Program, planned: Planned):
    bad = with_step(planned, 1, lambda call: change(call, inputs=call.inputs[:1]))
    assert refusal(program, bad).startswith("segment 'mix' is called with ['float32[2, 3]'")


def test_an_input_moved_to_the_outputs(program: Program, planned: Planned):
    """As many types in all, but on the other side."""
    bad = with_step(
        planned,
        1,
        lambda call: change(call, inputs=call.inputs[:1], outputs=("more", *call.outputs)),
    )
    values = {**planned.plan.values, "more": planned.plan.values["x"]}
    bad = with_plan(bad, values=values)
    assert refusal(program, bad).startswith("segment 'mix' is called with ['float32[2, 3]'")


def test_a_value_of_another_type_than_its_reader_takes(program: Program, planned: Planned):
    values = {**planned.plan.values, "add_tensor": TensorSpec("float64", SHAPE)}
    bad = with_plan(planned, values=values)
    assert refusal(program, bad).startswith("segment 'glue' is called with")


def test_an_output_that_is_not_there(program: Program, planned: Planned):
    bad = with_plan(planned, outputs={**planned.plan.outputs, "y": "nowhere"})
    assert "an output reads 'nowhere' before it is written" == refusal(program, bad)


# --- constants and draws ------------------------------------------------------------------------


@pytest.fixture
def with_table() -> tuple[Program, Planned]:
    sketch = Sketch()
    start = sketch.constant("start", torch.ones(SHAPE))
    sketch.constant("other", torch.zeros(SHAPE))
    (y,) = sketch.host("tests.scale", start)
    program = sketch.done(y=y)
    return program, plan(program)


def test_a_constant_under_the_name_of_another(with_table: tuple[Program, Planned]):
    program, planned = with_table
    bad = change(planned, constants={"const.start": "other"})
    assert "its" in refusal(program, bad) or "too few" in refusal(program, bad)


def test_a_constant_that_the_program_does_not_have(with_table: tuple[Program, Planned]):
    program, planned = with_table
    bad = change(planned, constants={"const.start": "gone"})
    assert "the constant 'const.start' is not the program's 'gone'" == refusal(program, bad)


def test_a_constant_of_another_type(with_table: tuple[Program, Planned]):
    program, planned = with_table
    program.constants["start"] = torch.ones(5)
    assert "the constant 'const.start' is not the program's 'start'" == refusal(program, planned)


def test_a_constant_without_name(with_table: tuple[Program, Planned]):
    program, planned = with_table
    bad = change(planned, constants={})
    assert "the plan's constants are not those that have a name" == refusal(program, bad)


def test_draws_of_another_kind(program: Program, planned: Planned):
    (group,) = planned.plan.draws
    other = change(group, draws=(change(group.draws[0], distribution="uniform"),))
    assert refusal(program, with_plan(planned, draws=(other,))).startswith("the program draws ")


def test_draws_missing(program: Program, planned: Planned):
    assert refusal(program, with_plan(planned, draws=())).startswith("the program draws ")


# --- verdicts and limits ------------------------------------------------------------------------


def test_a_node_on_a_backend_that_rejects_it(program: Program, planned: Planned):
    judges = {"first": Judge(), "second": Judge(refused_by_first)}
    with pytest.raises(ProgramError) as caught:
        validate_plan(program, planned, TWO, judges)
    assert (
        "the plan is wrong: segment 'glue_2' holds 'sub_tensor', which 'second' rejects "
        "(op-unsupported: no aten.sub.Tensor)"
    ) == caught.value.what


def test_a_backend_that_the_target_does_not_have(program: Program, planned: Planned):
    target = change(TWO, backends=("first", "host"))
    with pytest.raises(ProgramError) as caught:
        validate_plan(program, planned, target, JUDGES)
    assert (
        "the plan is wrong: segment 'glue_2' is for 'second', which the target does not have"
    ) == caught.value.what


def test_a_segment_over_a_limit(program: Program, planned: Planned):
    target = change(TWO, limits={"first": Limits(instructions=1)})
    with pytest.raises(ProgramError) as caught:
        validate_plan(program, planned, target, JUDGES)
    assert (
        "the plan is wrong: segment 'glue' is larger than 'first' allows "
        "(instructions: 2 needed, 1 allowed)"
    ) == caught.value.what
