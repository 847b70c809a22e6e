"""The validator: a sound plan passes, and each rule is seen to refuse a plan that breaks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from partitioner.errors import ProgramError
from partitioner.plan import Loop
from partitioner.planning.plan import HostCall, Planned
from partitioner.planning.validate import validate_plan
from partitioner.program import DrawOp, DrawSequence, Program
from partitioner.specs import TensorSpec
from partitioner.targets import Limits

from .sketch import SHAPE, TWO, Judge, Sketch, aten, plan

change = dataclasses.replace


def refused_by_first(node: fx.Node) -> bool:
    return node.meta.get("source") == "second"


JUDGES = {"first": Judge(refused_by_first), "second": Judge()}


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


def refusal(program: Program, planned: Planned) -> str:
    with pytest.raises(ProgramError) as caught:
        validate_plan(program, planned, TWO, JUDGES)
    assert caught.value.what.startswith("the plan is wrong: ")
    return caught.value.what.removeprefix("the plan is wrong: ")


def with_plan(planned: Planned, **changes: Any) -> Planned:
    return change(planned, plan=change(planned.plan, **changes))


def with_step(planned: Planned, index: int, edit: Callable[[Any], Any]) -> Planned:
    steps = list(planned.plan.steps)
    steps[index] = edit(steps[index])
    return with_plan(planned, steps=tuple(steps))


def with_loop(planned: Planned, edit: Callable[[Loop], Loop]) -> Planned:
    return with_step(planned, 2, edit)


def with_graph(planned: Planned, name: str, edit: Callable[[fx.Graph], None]) -> Planned:
    """A copy in which one segment's graph is edited."""
    segment: Any = planned.segments[name]
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in segment.graph.nodes:
        env[node] = graph.node_copy(node, lambda n: env[n])
    edit(graph)
    return change(planned, segments={**planned.segments, name: change(segment, graph=graph)})


def with_info(planned: Planned, name: str, /, **changes: Any) -> Planned:
    infos = planned.plan.segments
    return with_plan(planned, segments={**infos, name: change(infos[name], **changes)})


def find(graph: fx.Graph, target: Any) -> fx.Node:
    return next(n for n in graph.nodes if n.target is target)


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


# --- loops --------------------------------------------------------------------------------------


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


# --- segments -----------------------------------------------------------------------------------


def test_a_segment_without_description(program: Program, planned: Planned):
    infos = {k: v for k, v in planned.plan.segments.items() if k != "mix"}
    bad = with_plan(planned, segments=infos)
    assert "segments and their descriptions are not the same" == refusal(program, bad)


def test_a_segment_under_another_name(program: Program, planned: Planned):
    bad = with_info(planned, "glue", name="paste")
    assert "segment 'glue' is described under the name 'paste'" == refusal(program, bad)


def test_a_segment_of_another_backend_than_described(program: Program, planned: Planned):
    bad = with_info(planned, "glue", backend="second")
    assert "segment 'glue' of 'second' is made as 'glue' of 'first'" == refusal(program, bad)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_segment_that_declares_another_tensor(side: str, program: Program, planned: Planned):
    bad = with_info(planned, "glue", **{side: (("x", TensorSpec("float32", (7,))),)})
    assert f"segment 'glue' declares other {side} than its graph has" == refusal(program, bad)


def test_a_segment_that_declares_one_tensor_more(program: Program, planned: Planned):
    inputs = planned.plan.segments["glue"].inputs
    bad = with_info(planned, "glue", inputs=(*inputs, *inputs))
    assert "segment 'glue' declares other inputs than its graph has" == refusal(program, bad)


def test_two_tensors_of_one_name(program: Program, planned: Planned):
    info, segment = planned.plan.segments["glue_2"], planned.segments["glue_2"]
    bad = with_info(planned, "glue_2", inputs=tuple(("a", spec) for _, spec in info.inputs))
    renamed: Any = change(segment, inputs=("a", "a"))  # pyright: ignore
    bad = change(bad, segments={**planned.segments, "glue_2": renamed})
    assert "segment 'glue_2' has inputs of the same name" == refusal(program, bad)


def test_a_graph_in_a_wrong_order(program: Program, planned: Planned):
    def edit(graph: fx.Graph) -> None:
        find(graph, aten.add.Tensor).append(find(graph, aten.sin.default))

    bad = with_graph(planned, "glue", edit)
    assert "segment 'glue' uses an operand of 'add_tensor' before it is defined" == (
        refusal(program, bad)
    )


def test_a_graph_with_an_unknown_constant(program: Program, planned: Planned):
    def edit(graph: fx.Graph) -> None:
        find(graph, aten.add.Tensor).args[1].target = "gone"  # pyright: ignore

    bad = with_graph(planned, "glue", edit)
    assert "segment 'glue' reads the unknown constant 'gone'" == refusal(program, bad)


def test_a_graph_with_a_structural_op(program: Program, planned: Planned):
    from partitioner.program import call

    def edit(graph: fx.Graph) -> None:
        find(graph, aten.sin.default).target = call

    assert "segment 'glue' holds 'sin_default', which is no tensor op" == (
        refusal(program, with_graph(planned, "glue", edit))
    )


def test_a_host_op_that_is_not_there(program: Program, planned: Planned):
    bad = change(planned, segments={**planned.segments, "mix": HostCall("tests.gone", {})})
    assert "segment 'mix' runs the host op 'tests.gone', which the program does not have" == (
        refusal(program, bad)
    )


def test_a_host_op_whose_outputs_are_swapped(program: Program, planned: Planned):
    outputs = planned.plan.segments["mix"].outputs
    bad = with_info(planned, "mix", outputs=outputs[::-1])
    assert "segment 'mix' declares other outputs than the host op 'tests.mix' has" == (
        refusal(program, bad)
    )


# --- what is computed ---------------------------------------------------------------------------


def edited(planned: Planned, name: str, target: Any, edit: Callable[[fx.Node], None]) -> Planned:
    return with_graph(planned, name, lambda graph: edit(find(graph, target)))


def swap(node: fx.Node) -> None:
    node.args = node.args[::-1]


def test_operands_swapped_in_a_segment(program: Program, planned: Planned):
    bad = edited(planned, "glue_2", aten.sub.Tensor, swap)
    assert "'op aten.sub.Tensor' (second) on 'second' is run 1 times too few" == (
        refusal(program, bad)
    )


def test_another_argument(program: Program, planned: Planned):
    def edit(node: fx.Node) -> None:
        node.kwargs = {"alpha": 1.0}

    assert "is run 1 times too few" in refusal(
        program, edited(planned, "glue_2", aten.sub.Tensor, edit)
    )


def test_another_op(program: Program, planned: Planned):
    def edit(node: fx.Node) -> None:
        node.target = aten.cos.default

    text = refusal(program, edited(planned, "glue_step", aten.sin.default, edit))
    assert "'op aten.sin.default' (m.py:1) on 'first' is run 3 times too few" == text


def test_a_node_too_much(program: Program, planned: Planned):
    def edit(graph: fx.Graph) -> None:
        x = next(iter(graph.nodes))
        with graph.inserting_after(x):
            graph.call_function(aten.tanh.default, (x,))

    assert "'op aten.tanh.default' on 'first' is run 1 times too often" == (
        refusal(program, with_graph(planned, "glue", edit))
    )


def test_a_node_twice(program: Program, planned: Planned):
    def edit(graph: fx.Graph) -> None:
        sine = find(graph, aten.sin.default)
        with graph.inserting_after(sine):
            graph.node_copy(sine, lambda n: n)

    assert "'op aten.sin.default' (m.py:1) on 'first' is run 1 times too often" == (
        refusal(program, with_graph(planned, "glue", edit))
    )


def test_a_node_on_another_backend_than_it_was_placed_on(program: Program, planned: Planned):
    bad = with_info(planned, "glue", backend="second")
    moved: Any = change(planned.segments["glue"], backend="second")  # pyright: ignore
    bad = change(bad, segments={**planned.segments, "glue": moved})
    assert " on 'first' is run 1 times too few" in refusal(program, bad)


def test_operands_swapped_in_a_call(program: Program, planned: Planned):
    bad = with_step(planned, 3, lambda call: change(call, inputs=call.inputs[::-1]))
    assert "'op aten.sub.Tensor' (second) on 'second' is run 1 times too few" == (
        refusal(program, bad)
    )


def test_results_of_a_host_op_swapped(program: Program, planned: Planned):
    bad = with_step(planned, 1, lambda call: change(call, outputs=call.outputs[::-1]))
    assert "is run" in refusal(program, bad)


def test_another_option_of_a_host_op(program: Program, planned: Planned):
    bad = change(planned, segments={**planned.segments, "mix": HostCall("tests.mix", {"by": 1})})
    assert "'host op tests.mix' on 'host' is run 1 times too few" == refusal(program, bad)


def test_a_trip_too_few(program: Program, planned: Planned):
    loop: Any = planned.plan.steps[2]
    values = dict(planned.plan.values)
    for whole in (loop.slices[0].source, loop.stacked[0].result):
        values[whole] = TensorSpec("float32", (2, *SHAPE))
    bad = with_plan(with_loop(planned, lambda loop: change(loop, trips=2)), values=values)
    assert "is run 1 times too few" in refusal(program, bad)


def test_a_loop_that_starts_with_another_value(program: Program, planned: Planned):
    bad = with_loop(
        planned, lambda loop: change(loop, carries=(change(loop.carries[0], init="x"),))
    )
    # What the body does is the same; what comes out is not, and what is made of that.
    assert "'op aten.sub.Tensor' (second) on 'second' is run 1 times too few" == (
        refusal(program, bad)
    )


def test_a_loop_that_carries_on_another_value(program: Program, planned: Planned):
    bad = with_loop(
        planned,
        lambda loop: change(loop, carries=(change(loop.carries[0], next=loop.carries[0].inner),)),
    )
    assert "'op aten.sub.Tensor' (second) on 'second' is run 1 times too few" == (
        refusal(program, bad)
    )


def test_a_loop_that_collects_another_value(program: Program, planned: Planned):
    bad = with_loop(
        planned,
        lambda loop: change(loop, stacked=(change(loop.stacked[0], inner=loop.carries[0].next),)),
    )
    assert refusal(program, bad).startswith("its output 'seen' is 'stacked ")


def test_outputs_under_other_names(program: Program, planned: Planned):
    outputs = dict(zip("ab", planned.plan.outputs.values(), strict=True))
    bad = with_plan(planned, outputs=outputs)
    assert "its outputs are ['a', 'b'], not ['y', 'seen']" == refusal(program, bad)


def test_another_value_as_output(program: Program, planned: Planned):
    bad = with_plan(planned, outputs={**planned.plan.outputs, "y": "x"})
    assert "its output 'y' is 'input x', not 'op aten.sub.Tensor' (second), or has other " in (
        refusal(program, bad)
    )


def test_a_plan_for_another_input_name(program: Program, planned: Planned):
    bad = with_plan(planned, inputs={"z": "x"})
    assert "it takes the inputs ['z'], not ['x']" == refusal(program, bad)


def test_an_input_of_another_type(program: Program, planned: Planned):
    values = {**planned.plan.values, "x": TensorSpec("float64", SHAPE)}
    bad = with_plan(planned, values=values)
    assert "the input 'x' is float32[2, 3], but its value float64[2, 3]" == refusal(program, bad)


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
