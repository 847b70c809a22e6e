"""Operations and bytes of nodes and programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from partitioner.passes.costs import Cost, operations, program_cost
from tests.passes.models import WIDTH, Plain
from tests.passes.running import captured
from tests.passes.test_rows import graph_of

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("op", "shapes", "rest"),
    [
        (aten.matmul.default, [(4, 6, 3), (3, 5)], ()),
        (aten.mm.default, [(4, 3), (3, 5)], ()),
        (aten.bmm.default, [(4, 6, 3), (4, 3, 5)], ()),
        (aten.addmm.default, [(5,), (4, 3), (3, 5)], ()),
        (aten.linear.default, [(4, 6, 3), (5, 3)], ()),
        (aten.conv2d.default, [(4, 3, 8, 8), (5, 3, 3, 3)], ()),
        (aten.conv_transpose2d.input, [(4, 3, 8, 8), (3, 5, 3, 3)], (None, [2, 2])),
    ],
    ids=str,
)
def test_operations_are_those_that_torch_counts(op: Any, shapes: Any, rest: Any) -> None:
    (node,) = (n for n in graph_of(op, shapes, rest).nodes if n.op == "call_function")
    with FlopCounterMode(display=False) as counter:
        op(*(torch.randn(shape) for shape in shapes), *rest)
    assert counter.get_total_flops() == operations(node)


def test_attention_is_two_products() -> None:
    """torch does not count its kernel for CPUs."""
    shapes = [(4, 2, 6, 3), (4, 2, 5, 3), (4, 2, 5, 3)]
    graph = graph_of(aten.scaled_dot_product_attention.default, shapes, ())
    (node,) = (n for n in graph.nodes if n.op == "call_function")
    assert 2 * (4 * 2) * 6 * 5 * (3 + 3) == operations(node)


def test_moves_cost_nothing_and_the_rest_one_an_element() -> None:
    (node,) = (n for n in graph_of(aten.t.default, [(4, 6)], ()).nodes if n.op == "call_function")
    assert 0 == operations(node)
    (node,) = (n for n in graph_of(aten.sin.default, [(4, 6)], ()).nodes if n.op == "call_function")
    assert 24 == operations(node)


def test_a_loop_counts_once_a_trip() -> None:
    costs = [
        program_cost(captured(Plain(), condition=torch.randn(1, 5, WIDTH), steps=steps))
        for steps in (4, 8)
    ]
    assert costs[0].step_weight_bytes == costs[1].step_weight_bytes > 0
    assert 2 * costs[0].operations == costs[1].operations
    assert Cost() != costs[0]
