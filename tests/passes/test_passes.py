"""Every pass keeps the result, leaves a well-formed program, and has nothing left to do."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from torch import fx

from partitioner.errors import PassError, UsageError
from partitioner.interpreter import run_program
from partitioner.passes.base import Pass
from partitioner.passes.pipeline import (
    DEFAULT,
    PASSES,
    format_pipeline,
    parse_pipeline,
    run_pipeline,
)
from partitioner.program import DrawOp, DrawSequence, Program, TensorType, add_node, call, loop
from partitioner.specs import InputSpec
from tests.passes.running import after, captured, difference
from tests.programs import inputs_of, programs

aten = torch.ops.aten
F32 = torch.float32


def run(program: Program, name: str) -> Program:
    return parse_pipeline(name)[0].run(program).program


def ops(graph: fx.Graph) -> list[str]:
    return [str(n.target) for n in graph.nodes if n.op == "call_function"]


@pytest.mark.parametrize("name", sorted(PASSES))
@given(program=programs())
@settings(max_examples=40, deadline=None)
def test_a_pass_keeps_the_result_and_is_done_at_once(name: str, program: Program) -> None:
    inputs = inputs_of(program)
    expected = run_program(program, inputs)
    (one,) = parse_pipeline(name)
    once = one.run(program)
    actual = run_program(once.program, {k: inputs[k] for k in inputs_of(once.program)})
    # Passes that only move things are held to more than the default; those that round, to less.
    tolerance = one.tolerance if one.tolerance > 1e-5 else 1e-6
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=tolerance, atol=tolerance)
    assert not one.run(once.program).modified


@given(program=programs())
@settings(max_examples=40, deadline=None)
def test_the_default_pipeline_keeps_the_result(program: Program) -> None:
    inputs = inputs_of(program)
    expected = run_program(program, inputs)
    after, records = run_pipeline(program, parse_pipeline(DEFAULT))
    actual = run_program(after, {k: inputs[k] for k in inputs_of(after)})
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-6, atol=1e-6)
    assert len(DEFAULT.split(",")) == len(records)


# --- the framework ------------------------------------------------------------------------------


def single(op: Any, *rest: Any, x: TensorType, result: TensorType) -> Program:
    """A program of one op on an input."""
    graph = fx.Graph()
    node = add_node(graph, "placeholder", "x", type=x, name="x")
    out = add_node(graph, "call_function", op, (node, *rest), type=result, source="m.py:3")
    graph.output((out,))
    return Program(main=graph, inputs=(InputSpec("x", x.spec),), outputs=("out",))


SMALL = TensorType((2, 3), F32)


def test_a_pass_that_lies_is_caught() -> None:
    @dataclass(frozen=True)
    class Lying(Pass):
        name: ClassVar[str] = "lying"

        def apply(self, program: Program) -> bool:
            next(n for n in program.main.nodes if n.op == "call_function").target = aten.cos.default
            return False

    with pytest.raises(PassError, match="says it did not"):
        Lying().run(single(aten.sin.default, x=SMALL, result=SMALL))


def test_a_pass_that_breaks_the_program_is_caught_with_the_line() -> None:
    @dataclass(frozen=True)
    class Breaking(Pass):
        name: ClassVar[str] = "breaking"

        def apply(self, program: Program) -> bool:
            node = next(n for n in program.main.nodes if n.op == "call_function")
            del node.meta["type"]
            return True

    with pytest.raises(PassError, match="no declared shape") as caught:
        Breaking().run(single(aten.sin.default, x=SMALL, result=SMALL))
    assert "m.py:3" == caught.value.where


def test_pipelines_print_and_parse() -> None:
    text = "normalise,fold-constants{budget=1024},eliminate-dead"
    assert text == format_pipeline(parse_pipeline(text))
    assert DEFAULT == format_pipeline(parse_pipeline(DEFAULT))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("normalize", "did you mean 'normalise'"),
        ("fold-constants{limit=3}", "does not take 'limit=3'"),
        ("fold-constants{budget=much}", "does not take"),
        ("normalise;eliminate-dead", "cannot be read"),
    ],
)
def test_pipelines_that_cannot_be_meant(text: str, match: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text)
    assert match.split("'")[0] in str(caught.value)


# --- each pass ----------------------------------------------------------------------------------


def test_normalise_drops_what_does_nothing() -> None:
    for op, rest in (
        (aten.clone.default, ()),
        (aten.detach.default, ()),
        (aten.view.default, ([2, 3],)),
        (aten.expand.default, ([2, 3],)),
        (aten.dropout.default, (0.5, False)),
        (aten.squeeze.dim, (1,)),
    ):
        program = single(op, *rest, x=SMALL, result=SMALL)
        assert [] == ops(run(program, "normalise").main), op


def test_normalise_spells_views_one_way() -> None:
    flat = TensorType((6,), F32)
    program = single(aten.view.default, [-1], x=SMALL, result=flat)
    after = run(program, "normalise").main
    assert ["aten.reshape.default"] == ops(after)
    assert [6] == next(n for n in after.nodes if n.op == "call_function").args[1]


def test_linear_weights_are_transposed_once_and_replace_the_original() -> None:
    graph = fx.Graph()
    x = add_node(graph, "placeholder", "x", type=TensorType((1, 4), F32), name="x")
    w = add_node(graph, "get_attr", "net.weight", type=TensorType((5, 4), F32))
    out = add_node(
        graph, "call_function", aten.linear.default, (x, w), type=TensorType((1, 5), F32)
    )
    graph.output((out,))
    program = Program(
        main=graph,
        constants={"net.weight": torch.randn(5, 4)},
        inputs=(InputSpec("x", TensorType((1, 4), F32).spec),),
        outputs=("out",),
    )
    after, _ = run_pipeline(program, parse_pipeline(DEFAULT))
    assert ["aten.matmul.default"] == ops(after.main)
    assert [(4, 5)] == [tuple(t.shape) for t in after.constants.values()]


def test_an_index_tensor_is_never_folded_into_gigabytes() -> None:
    graph = fx.Graph()
    x = add_node(graph, "placeholder", "x", type=TensorType((1,), F32), name="x")
    huge = TensorType((2**30,), torch.int64)
    index = add_node(graph, "call_function", aten.arange.default, (2**30,), type=huge)
    picked = add_node(
        graph, "call_function", aten.select.int, (index, 0, 7), type=TensorType((), torch.int64)
    )
    out = add_node(graph, "call_function", aten.add.Tensor, (x, picked), type=TensorType((1,), F32))
    graph.output((out,))
    spec = TensorType((1,), F32).spec
    program = Program(main=graph, inputs=(InputSpec("x", spec),), outputs=("out",))
    after = run(program, "fold-constants")
    assert "aten.arange.default" in ops(after.main)
    assert 0 == sum(t.nbytes for t in after.constants.values())


def nested(*, calls: int) -> Program:
    """A sub-graph called ``calls`` times."""
    body = fx.Graph()
    inner = add_node(body, "placeholder", "in_0", type=SMALL, name="in_0")
    body.output((add_node(body, "call_function", aten.sin.default, (inner,), type=SMALL),))
    graph = fx.Graph()
    value = add_node(graph, "placeholder", "x", type=SMALL, name="x")
    for _ in range(calls):
        node = add_node(graph, "call_function", call, ("stage", (value,)), type=(SMALL,))
        value = add_node(graph, "call_function", operator.getitem, (node, 0), type=SMALL)
    graph.output((value,))
    return Program(
        main=graph, graphs={"stage": body}, inputs=(InputSpec("x", SMALL.spec),), outputs=("out",)
    )


def test_a_stage_called_once_is_inlined_and_one_called_twice_is_not() -> None:
    once = run(nested(calls=1), "inline-calls")
    assert {} == once.graphs
    assert ["aten.sin.default"] == ops(once.main)
    assert ["stage"] == list(run(nested(calls=2), "inline-calls").graphs)


def test_dead_carries_go_and_draws_stay() -> None:
    body = fx.Graph()
    a = add_node(body, "placeholder", "a", type=SMALL, name="a")
    b = add_node(body, "placeholder", "b", type=SMALL, name="b")
    a_next = add_node(body, "call_function", aten.sin.default, (a,), type=SMALL)
    b_next = add_node(body, "call_function", aten.cos.default, (b,), type=SMALL)
    body.output((a_next, b_next))
    graph = fx.Graph()
    x = add_node(graph, "placeholder", "x", type=SMALL, name="x")
    add_node(graph, "placeholder", "noise_1", type=SMALL, name="noise_1")
    node = add_node(graph, "call_function", loop, ("body", (x, x), 3, 2, 0), type=(SMALL, SMALL))
    out = add_node(graph, "call_function", operator.getitem, (node, 0), type=SMALL)
    graph.output((out,))
    program = Program(
        main=graph,
        graphs={"body": body},
        inputs=(InputSpec("x", SMALL.spec),),
        outputs=("out",),
        draws=(DrawSequence(1, (DrawOp("noise_1", "normal", (0.0, 1.0)),)),),
    )
    after = run(program, "eliminate-dead")
    assert ["aten.sin.default"] == ops(after.graphs["body"])
    assert 1 == next(n for n in after.main.nodes if n.target is loop).args[3]
    assert ["x", "noise_1"] == [n.target for n in after.main.nodes if n.op == "placeholder"]


def test_equal_nodes_and_equal_constants_are_one() -> None:
    graph = fx.Graph()
    x = add_node(graph, "placeholder", "x", type=SMALL, name="x")
    parts = []
    for name in ("a.w", "b.w"):
        w = add_node(graph, "get_attr", name, type=SMALL)
        parts.append(add_node(graph, "call_function", aten.mul.Tensor, (x, w), type=SMALL))
    graph.output((add_node(graph, "call_function", aten.add.Tensor, tuple(parts), type=SMALL),))
    program = Program(
        main=graph,
        constants={"a.w": torch.ones(2, 3), "b.w": torch.ones(2, 3)},
        inputs=(InputSpec("x", SMALL.spec),),
        outputs=("out",),
    )
    after = run(program, "eliminate-common")
    assert ["aten.mul.Tensor", "aten.add.Tensor"] == ops(after.main)
    assert ["a.w"] == list(after.constants)


def test_operands_and_numbers_tell_nodes_apart() -> None:
    graph = fx.Graph()
    x = add_node(graph, "placeholder", "x", type=SMALL, name="x")
    for args in ((x, 1), (x, 1.0), (x, 0.0), (x, -0.0), (x, x)):
        add_node(graph, "call_function", aten.sub.Tensor, args, type=SMALL)
    nodes = [n for n in graph.nodes if n.op == "call_function"]
    graph.output(tuple(nodes))
    program = Program(
        main=graph,
        inputs=(InputSpec("x", SMALL.spec),),
        outputs=tuple(str(i) for i in range(5)),
    )
    assert 5 == len(ops(run(program, "eliminate-common").main))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hoist-invariants{budget=-1}", "has budget=-1"),
        ("batch-steps{trips=-3}", "has trips=-3"),
        ("fold-constants{budget=1 budget=2}", "is given budget twice"),
    ],
)
def test_numbers_that_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pipeline(text)


class Glued(torch.nn.Module):
    """As diffusers' DiT does: the part of a prediction that it has not got is glued on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own, rest = x[:, :4], x[:, 4:]
        return torch.cat([torch.cat([own * 2, own]), torch.cat([rest, rest])], dim=1) + 1


def test_normalise_leaves_out_what_has_no_elements() -> None:
    program = captured(Glued(), x=torch.randn(2, 4, 3))
    done, _ = after(program, "inline-calls,normalise,eliminate-dead")
    sizes = [n.meta["type"].shape for n in done.main.nodes if n.op == "call_function"]
    assert all(0 not in shape for shape in sizes)
    assert 1 == ops(done.main).count("aten.cat.default")
    assert 0.0 == difference(program, done)
