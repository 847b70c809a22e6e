"""Segments made of a few ops, for the compilers and checks of backends."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from partitioner.planning.segments import Segment
from partitioner.program import TensorType, add_node

__all__ = ["Draft", "aten"]

aten = torch.ops.aten


class Draft:
    """A graph in the making; every op has a source line of its own, ``m.py:1``, ``m.py:2``..."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}

    def input(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> fx.Node:
        type_ = TensorType(shape, dtype)
        return add_node(self.graph, "placeholder", name, type=type_, name=name)

    def constant(self, name: str, tensor: torch.Tensor) -> fx.Node:
        self.constants[name] = tensor
        return add_node(self.graph, "get_attr", name, type=TensorType.of(tensor))

    def op(self, op: Any, *args: Any, **kwargs: Any) -> fx.Node:
        given = fx.node.map_arg(args, lambda node: node.meta["type"].empty("cpu").zero_())
        with torch.no_grad():
            result = op(*given, **kwargs)
        type_ = (
            TensorType.of(result)
            if isinstance(result, torch.Tensor)
            else tuple(TensorType.of(r) for r in result)
        )
        line = 1 + sum(n.op == "call_function" for n in self.graph.nodes)
        source = f"m.py:{line} in forward"
        return add_node(self.graph, "call_function", op, args, kwargs, type=type_, source=source)

    def item(self, node: fx.Node, index: int) -> fx.Node:
        import operator

        made = self.graph.call_function(operator.getitem, (node, index))
        made.meta.update(type=node.meta["type"][index], source="")
        return made

    def types(self) -> dict[str, TensorType]:
        return {name: TensorType.of(tensor) for name, tensor in self.constants.items()}

    def done(self, *outputs: fx.Node, name: str = "part", backend: str = "neuron") -> Segment:
        self.graph.output(outputs)
        inputs = tuple(str(n.target) for n in self.graph.nodes if n.op == "placeholder")
        names = tuple(node.name for node in outputs)
        return Segment(name, backend, self.graph, inputs, names, ("stage",), ("m.py:1 in forward",))
