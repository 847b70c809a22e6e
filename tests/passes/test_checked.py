"""Planted mistakes are found and named; what is right is left alone."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from torch import fx

from partitioner.errors import PassError
from partitioner.passes.base import Pass
from partitioner.passes.checked import check_passes, find_divergence
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.passes.traces import record
from partitioner.program import Program, TensorType, add_node, loop
from partitioner.specs import InputSpec
from tests.passes.planted import (
    DropCarry,
    HoistStep,
    ShiftTable,
    SwapSubtraction,
    TransposeWrongWeight,
    denoiser,
    denoiser_inputs,
)
from tests.programs import inputs_of, programs

aten = torch.ops.aten
F32 = torch.float32


def check(program: Program, *passes: Pass, inputs: dict[str, torch.Tensor]) -> None:
    run_pipeline(program, passes, observers=[check_passes(inputs)])


@pytest.mark.parametrize(
    ("planted", "node", "trip", "source"),
    [
        (SwapSubtraction(), "less", 0, "model.py:16"),
        # At the first trip there is nothing carried yet.
        (DropCarry(), "x", 1, "model.py:11"),
        (TransposeWrongWeight(), "second", 0, "model.py:12"),
        (ShiftTable(), "times", None, ""),
        (HoistStep(), "time", None, "model.py:10"),
    ],
)
def test_the_first_wrong_node_is_named(
    planted: Pass, node: str, trip: int | None, source: str
) -> None:
    program, inputs = denoiser(), denoiser_inputs()
    before = record(program, inputs)
    after = record(planted.run(program).program, inputs)
    found = find_divergence(program, before, after, inputs, planted)
    assert found is not None
    assert found.node is not None
    assert (node, trip, source) == (found.node.name, found.trip, found.source)
    assert found.error > 1e-3
    assert ["picture"] == list(found.outputs)


@pytest.mark.parametrize(
    "planted", [SwapSubtraction(), DropCarry(), TransposeWrongWeight(), ShiftTable(), HoistStep()]
)
def test_the_pipeline_stops_at_the_pass(planted: Pass) -> None:
    innocent = parse_pipeline("normalise,eliminate-dead")
    with pytest.raises(PassError) as caught:
        check(denoiser(), *innocent, planted, *innocent, inputs=denoiser_inputs())
    assert f"pass {planted.name!r} changed the numbers" in caught.value.what
    assert "picture by" in caught.value.what
    assert 5 == caught.value.exit_code


def test_new_nodes_before_the_wrong_one_are_named() -> None:
    with pytest.raises(PassError) as caught:
        check(denoiser(), TransposeWrongWeight(), inputs=denoiser_inputs())
    assert "node 'second' (aten.matmul.default) of graph 'body', trip 0" in caught.value.what
    assert "what the pass made: turned (aten.permute.default)" in caught.value.what
    assert "model.py:12" == caught.value.where


def test_a_hoisted_node_is_known_by_its_name() -> None:
    with pytest.raises(PassError, match="moved here from graph 'body'"):
        check(denoiser(), HoistStep(), inputs=denoiser_inputs())


def test_a_pass_that_makes_a_program_that_fails_is_named() -> None:
    @dataclass(frozen=True)
    class Breaking(Pass):
        name: ClassVar[str] = "breaking"

        def apply(self, program: Program) -> bool:
            node = next(n for n in program.main.nodes if n.name == "decoded")
            node.target = aten.linalg_solve.default
            node.args = (torch.zeros, node.args[1])
            return True

    with pytest.raises(PassError, match="'breaking' made a program that cannot be run") as caught:
        check(denoiser(), Breaking(), inputs=denoiser_inputs())
    assert "model.py:22" == caught.value.where


@given(program=programs())
@settings(max_examples=40, deadline=None)
def test_the_default_pipeline_is_not_accused(program: Program) -> None:
    check(program, *parse_pipeline(DEFAULT), inputs=inputs_of(program))


# --- rounding -----------------------------------------------------------------------------------


def chaotic(trips: int) -> Program:
    """The logistic map, which doubles an error at each step."""
    one = TensorType((8,), F32)
    body = fx.Graph()
    x = add_node(body, "placeholder", "x", type=one, name="x")
    rest = add_node(body, "call_function", aten.rsub.Scalar, (x, 1.0), type=one)
    product = add_node(body, "call_function", aten.mul.Tensor, (x, 3.9), type=one)
    body.output((add_node(body, "call_function", aten.mul.Tensor, (product, rest), type=one),))
    main = fx.Graph()
    given_x = add_node(main, "placeholder", "x", type=one, name="x")
    node = add_node(main, "call_function", loop, ("body", (given_x,), trips, 1, 0), type=(one,))
    main.output((add_node(main, "call_function", operator.getitem, (node, 0), type=one),))
    return Program(
        main=main,
        graphs={"body": body},
        inputs=(InputSpec("x", one.spec),),
        outputs=("out",),
    )


@dataclass(frozen=True)
class Rescale(Pass):
    """x * 3.9 becomes (x / 3) * 11.7."""

    name: ClassVar[str] = "rescale"

    def apply(self, program: Program) -> bool:
        graph = program.graphs["body"]
        node = next(n for n in graph.nodes if 3.9 in n.args)
        with graph.inserting_before(node):
            third = add_node(
                graph,
                "call_function",
                aten.div.Tensor,
                (node.args[0], 3.0),
                type=node.meta["type"],
            )
        node.args = (third, 11.7)
        return True


def test_a_loop_that_amplifies_rounding_is_no_mistake() -> None:
    inputs = {"x": torch.linspace(0.1, 0.9, 8)}
    program = chaotic(24)
    before, after = (record(p, inputs) for p in (program, Rescale().run(program).program))
    assert abs(before.outputs["out"].norm / after.outputs["out"].norm - 1) > 1e-5
    check(program, Rescale(), inputs=inputs)


def test_a_mistake_in_such_a_loop_is_still_found() -> None:
    @dataclass(frozen=True)
    class Wrong(Pass):
        name: ClassVar[str] = "wrong"

        def apply(self, program: Program) -> bool:
            node = next(n for n in program.graphs["body"].nodes if 3.9 in n.args)
            node.args = (node.args[0], 3.901)
            return True

    with pytest.raises(PassError, match=r"graph 'body', trip 0 differs"):
        check(chaotic(24), Wrong(), inputs={"x": torch.linspace(0.1, 0.9, 8)})


def test_an_exact_pass_is_held_to_every_bit() -> None:
    @dataclass(frozen=True)
    class Exact(Rescale):
        name: ClassVar[str] = "exact"
        tolerance: ClassVar[float] = 0.0

    with pytest.raises(PassError, match="allowed are 0"):
        check(chaotic(2), Exact(), inputs={"x": torch.linspace(0.1, 0.9, 8)})


def test_names_with_new_meanings_are_only_judged_by_the_outputs() -> None:
    @dataclass(frozen=True)
    class Renaming(Pass):
        """sin(x) becomes cos(x - pi/2), and the name of the node another value's."""

        name: ClassVar[str] = "renaming"
        keeps_values: ClassVar[bool] = False

        def apply(self, program: Program) -> bool:
            graph = program.graphs["body"]
            node = next(n for n in graph.nodes if n.name == "time")
            node.target = aten.neg.default
            with graph.inserting_after(node):
                back = add_node(
                    graph, "call_function", aten.sin.default, (node,), type=node.meta["type"]
                )
                graph.inserting_after(back)
            with graph.inserting_after(back):
                turned = add_node(
                    graph, "call_function", aten.neg.default, (back,), type=node.meta["type"]
                )
            for user in list(node.users):
                if user is not back:
                    user.replace_input_with(node, turned)
            return True

    check(denoiser(), Renaming(), inputs=denoiser_inputs())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_inputs_that_are_no_numbers_accuse_no_pass_and_excuse_none(number: float) -> None:
    inputs = denoiser_inputs()
    inputs["x"][0, 0] = number
    check(denoiser(), *parse_pipeline(DEFAULT), inputs=inputs)
    with pytest.raises(PassError, match="'swap-subtraction' changed the numbers"):
        check(denoiser(), SwapSubtraction(), inputs=inputs)
