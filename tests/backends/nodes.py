"""Nodes of one op, for verdicts."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from partitioner.program import TensorType, add_node
from partitioner.targets import Target

__all__ = ["INF2", "SOURCE", "aten", "node", "typed"]

aten = torch.ops.aten
SOURCE = "model.py:5 in forward"

#: As verdicts see Inferentia; what it costs and how fast it is does not matter to them.
INF2 = Target("inf2", ("neuron", "onnx", "host"), 1e-2, 1e-3, (), "for verdicts")


def node(op: Any, *args: Any, reads: tuple[int, ...] = (), **kwargs: Any) -> fx.Node:
    """A node of an op on tensors, which become inputs of their types.

    Args:
        reads: which of several results are read.
    """
    with torch.no_grad():
        result = op(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        return typed(op, args, TensorType.of(result), **kwargs)
    made = typed(op, args, tuple(TensorType.of(r) for r in result), **kwargs)
    for index in reads:
        made.graph.call_function(operator.getitem, (made, index))
    return made


def typed(op: Any, args: tuple[Any, ...], result: Any, **kwargs: Any) -> fx.Node:
    """A node whose result has a given type; operands are tensors or types."""
    graph = fx.Graph()

    def operand(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [operand(v) for v in value]
        type_ = TensorType.of(value) if isinstance(value, torch.Tensor) else value
        if not isinstance(type_, TensorType):
            return value
        name = f"x{len(graph.nodes)}"
        return add_node(graph, "placeholder", name, type=type_, name=name)

    given = tuple(operand(value) for value in args)
    return add_node(graph, "call_function", op, given, kwargs, type=result, source=SOURCE)
