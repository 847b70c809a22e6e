"""The validator on segments: each rule is seen to refuse a plan that breaks it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import fx

from partitioner.planning.planned import Planned
from partitioner.planning.tables import HostCall
from partitioner.program import Program
from partitioner.specs import TensorSpec

from .edits import change, find, refusal, with_graph, with_info, with_plan
from .sketch import aten


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
