"""Ops that are said to work row by row do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from partitioner.interpreter import run_nodes
from partitioner.passes.rows import resized_args, resized_type, row_operands
from partitioner.program import TensorType, add_node

aten = torch.ops.aten

#: op, shapes of its tensor operands, further arguments.
CASES: list[tuple[Any, list[tuple[int, ...]], tuple[Any, ...]]] = [
    (aten.sin.default, [(4, 3)], ()),
    (aten.add.Tensor, [(4, 3), (3,)], ()),
    (aten.mul.Tensor, [(2, 4, 3), (4, 1)], ()),
    (aten.matmul.default, [(4, 6, 3), (3, 5)], ()),
    (aten.matmul.default, [(4, 6, 3), (4, 3, 5)], ()),
    (aten.matmul.default, [(2, 4, 6, 3), (4, 3, 5)], ()),
    (aten.mm.default, [(4, 3), (3, 5)], ()),
    (aten.bmm.default, [(4, 6, 3), (4, 3, 5)], ()),
    (aten.linear.default, [(4, 6, 3), (5, 3)], ()),
    (aten.layer_norm.default, [(4, 6, 3)], ([3],)),
    (aten.group_norm.default, [(4, 6, 5)], (2,)),
    (aten.conv2d.default, [(4, 3, 8, 8), (5, 3, 3, 3)], ()),
    (aten.conv_transpose1d.default, [(4, 3, 8), (3, 5, 3)], ()),
    (aten.softmax.int, [(4, 6)], (-1,)),
    (aten.mean.dim, [(4, 6, 3)], ([1],)),
    (aten.sum.dim_IntList, [(6, 4, 3)], ([0], True)),
    (aten.scaled_dot_product_attention.default, [(4, 2, 6, 3), (4, 2, 5, 3), (4, 2, 5, 3)], ()),
    (aten.transpose.int, [(4, 6, 3)], (0, 1)),
    (aten.permute.default, [(4, 6, 3)], ([2, 0, 1],)),
    (aten.t.default, [(4, 6)], ()),
    (aten.unsqueeze.default, [(4, 6)], (1,)),
    (aten.reshape.default, [(4, 6, 2)], ([4, 12],)),
    (aten.reshape.default, [(2, 4, 6)], ([2, 4, 3, 2],)),
    (aten.expand.default, [(4, 1, 3)], ([4, 5, 3],)),
    (aten.slice.Tensor, [(4, 6)], (1, 2, 5)),
    (aten.select.int, [(6, 4)], (0, 1)),
    (aten.constant_pad_nd.default, [(4, 6)], ([1, 2], 0.0)),
    (aten.upsample_nearest2d.vec, [(4, 3, 5, 5)], (None, [2.0, 2.0])),
    (aten.avg_pool2d.default, [(4, 3, 6, 6)], ([2, 2],)),
    (aten.max_pool2d.default, [(4, 6, 6)], ([2, 2],)),
    (aten.clone.default, [(4, 6)], ()),
]


def graph_of(op: Any, shapes: list[tuple[int, ...]], rest: tuple[Any, ...]) -> fx.Graph:
    graph = fx.Graph()
    nodes = [
        add_node(graph, "placeholder", f"x{i}", type=TensorType(s, torch.float32), name=f"x{i}")
        for i, s in enumerate(shapes)
    ]
    type_ = TensorType.of(op(*(torch.randn(s) for s in shapes), *rest))
    node = add_node(graph, "call_function", op, (*nodes, *rest), type=type_)
    graph.output((node,))
    return graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{case[1]}")
def test_parts_of_the_rows_give_parts_of_the_result(case: Any) -> None:
    op, shapes, rest = case
    torch.manual_seed(0)
    tensors = [torch.randn(shape) for shape in shapes]
    graph = graph_of(op, shapes, rest)
    (node,) = (n for n in graph.nodes if n.op == "call_function")
    (whole,) = run_nodes(graph, {}, tensors)
    found = 0
    for dim, size in enumerate(whole.shape):
        rows = row_operands(node, dim)
        if rows is None or size < 2:
            continue
        found += 1
        parts = []
        for start, end in ((0, 1), (1, size)):
            given = dict(zip(node.all_input_nodes, tensors, strict=True))
            for operand, place in rows.items():
                given[operand] = given[operand].narrow(place, start, end - start)
            args = resized_args(node, dim, end - start)
            values = [given.get(a, a) if isinstance(a, fx.Node) else a for a in args]
            parts.append(op(*values))
            assert TensorType.of(parts[-1]) == resized_type(node, dim, end - start)
        torch.testing.assert_close(torch.cat(parts, dim), whole, rtol=1e-5, atol=1e-5)
    assert found > 0


@pytest.mark.parametrize(
    ("case", "dim"),
    [
        ((aten.softmax.int, [(4, 6)], (0,)), 0),
        ((aten.cumsum.default, [(4, 6)], (0,)), 0),
        ((aten.layer_norm.default, [(4, 6, 3)], ([6, 3],)), 1),
        ((aten.group_norm.default, [(4, 6, 5)], (2,)), 1),
        ((aten.conv2d.default, [(4, 3, 8, 8), (5, 3, 3, 3)], ()), 2),
        ((aten.conv2d.default, [(4, 8, 8), (4, 4, 3, 3)], ()), 0),
        ((aten.conv_transpose1d.default, [(3, 8), (3, 5, 3)], ()), 0),
        ((aten.avg_pool2d.default, [(4, 6, 6)], ([3, 3], [1, 1], [1, 1])), 1),
        ((aten.max_pool2d.default, [(4, 6, 6)], ([3, 3], [1, 1], [1, 1])), 1),
        ((aten.mean.default, [(4, 6)], ()), 0),
        ((aten.reshape.default, [(4, 6)], ([12, 2],)), 0),
        ((aten.unsqueeze.default, [(4, 6)], (1,)), 1),
        ((aten.slice.Tensor, [(4, 6)], (1, 2, 5)), 1),
        ((aten.flip.default, [(4, 6)], ([0],)), 0),
    ],
    ids=str,
)
def test_ops_that_mix_rows(case: Any, dim: int) -> None:
    (node,) = (n for n in graph_of(*case).nodes if n.op == "call_function")
    assert row_operands(node, dim) is None
