"""Plans that are well-formed and compute something else than the program are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from partitioner.planning.planned import Planned
from partitioner.planning.tables import HostCall
from partitioner.program import Program
from partitioner.specs import TensorSpec

from .edits import change, find, refusal, with_graph, with_info, with_loop, with_plan, with_step
from .sketch import SHAPE, aten


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
