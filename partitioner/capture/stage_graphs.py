"""Stages as graphs of the program, and how an exported program becomes one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from partitioner.capture.draws import Streams, classify, is_random, memory_order
from partitioner.capture.sources import line_of_trace
from partitioner.capture.tape import DrawSpec
from partitioner.errors import CaptureError
from partitioner.program import TensorType, add_node

__all__ = ["Converter", "StageGraph"]

#: Ops of an exported graph that check and give nothing.
_CHECKS = frozenset(
    {
        "aten::_assert_tensor_metadata",
        "aten::_assert_async",
        "aten::_assert_scalar",
        "aten::sym_constrain_range_for_size",
    }
)


@dataclass(frozen=True)
class StageGraph:
    """A stage, exported for one signature, as a graph of the program.

    Attributes:
        name: of the graph in the program.
        graph: placeholders are the tensor arguments in the order of their leaves, then draws.
        constants: weights and other constants the graph names.
        types: of the results that are tensors.
        strides: of each of them in eager, without gaps.
        draws: what the stage draws at random, in order: an extra operand each.
        rebuild: makes what the module returns from its tensors.
    """

    name: str
    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    types: tuple[TensorType, ...]
    strides: tuple[tuple[int, ...], ...]
    draws: tuple[tuple[DrawSpec, TensorType], ...]
    rebuild: Callable[[Sequence[torch.Tensor]], Any]

    def stand_ins(self) -> list[torch.Tensor]:
        """Zeros for the results, in the layout that eager gives them: draws may follow it."""
        return [
            torch.empty_strided(type_.empty().shape, strides, dtype=type_.dtype).zero_()
            for type_, strides in zip(self.types, self.strides, strict=True)
        ]


class Converter:
    """Turns one exported program into a graph of the program.

    Args:
        path: where the module stands in the pipeline; constants are named after it.
        name: of the graph.
    """

    def __init__(self, exported: ExportedProgram, path: str, name: str) -> None:
        self.exported = exported
        self.path = path
        self.name = name
        self.graph = fx.Graph()
        self.env: dict[fx.Node, fx.Node] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.draws: list[tuple[DrawSpec, TensorType]] = []
        self.orders: dict[fx.Node, tuple[int, ...]] = {}

    def convert(self) -> StageGraph:
        """Make the graph; once.

        Raises:
            CaptureError: the stage has active dropout, draws what is not captured, or uses what
                is no tensor op.
        """
        specs = iter(self.exported.graph_signature.input_specs)
        body: list[fx.Node] = []
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, next(specs))
            elif node.op == "call_function" and self._is_draw(node):
                self._draw(node)
            else:
                body.append(node)
        for node, order in self.orders.items():
            self._to_shape(node, order)
        for node in body:
            if node.op == "call_function":
                self._op(node)
        types, strides, rebuild = self._output()
        draws = tuple(self.draws)
        return StageGraph(self.name, self.graph, self.constants, types, strides, draws, rebuild)

    def _placeholder(self, node: fx.Node, spec: Any) -> None:
        if isinstance(spec.arg, ConstantArgument):
            return
        type_ = TensorType.of(node.meta["val"])
        if spec.kind == InputKind.USER_INPUT:
            self.env[node] = add_node(
                self.graph, "placeholder", node.name, type=type_, stage=self.path, name=node.name
            )
            return
        name = f"{self.path}.{spec.target}"
        tensors = (self.exported.state_dict, self.exported.constants)
        tensor = next(t[spec.target] for t in tensors if spec.target in t)
        self.constants[name] = cast(torch.Tensor, tensor).detach()
        self.env[node] = add_node(self.graph, "get_attr", name, type=type_, stage=self.path)

    def _is_draw(self, node: fx.Node) -> bool:
        target = node.target
        return isinstance(target, torch._ops.OpOverload) and is_random(
            target, node.args, dict(node.kwargs)
        )

    def _draw(self, node: fx.Node) -> None:
        if "dropout" in str(node.target):
            raise CaptureError(
                f"stage {self.path!r} has active dropout",
                where=line_of_trace(node.meta.get("stack_trace")),
                advice="call .eval() on the model",
            )
        args = tuple(a for a in node.args if not isinstance(a, fx.Node))
        target = cast(torch._ops.OpOverload, node.target)
        spec = classify(target, args, dict(node.kwargs), Streams()).spec
        value = cast(torch.Tensor, node.meta["val"])
        source = line_of_trace(node.meta.get("stack_trace"))
        order = memory_order(spec, value, source or f"stage {self.path!r}")
        if order != tuple(range(value.ndim)):
            self.orders[node] = order
        type_ = TensorType.of(value.permute(order))
        self.draws.append((spec, type_))
        self.env[node] = add_node(
            self.graph,
            "placeholder",
            f"draw_{len(self.draws)}",
            type=type_,
            source=source,
            stage=self._stage_of(node),
        )

    def _to_shape(self, node: fx.Node, order: tuple[int, ...]) -> None:
        """Numbers that were drawn along memory, in the order of the shape."""
        drawn = self.env[node]
        self.env[node] = add_node(
            self.graph,
            "call_function",
            torch.ops.aten.permute.default,
            (drawn, [order.index(dim) for dim in range(len(order))]),
            type=TensorType.of(node.meta["val"]),
            like=drawn,
        )

    def _op(self, node: fx.Node) -> None:
        source = line_of_trace(node.meta.get("stack_trace"))
        target = node.target
        if target is not operator.getitem:
            if not isinstance(target, torch._ops.OpOverload):
                raise CaptureError(
                    f"stage {self.path!r} uses {target}, which this version does not capture",
                    where=source,
                    advice="write it with plain tensor ops",
                )
            if target.name().split(".")[0] in _CHECKS:
                return
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self.env[n])
        self.env[node] = add_node(
            self.graph,
            "call_function",
            target,
            cast("tuple[Any, ...]", args),
            cast("dict[str, Any]", kwargs),
            type=_type_of(node.meta["val"]),
            source=source,
            stage=self._stage_of(node),
            name=node.name,
        )

    def _stage_of(self, node: fx.Node) -> str:
        stack = cast("dict[str, tuple[str, Any]]", node.meta.get("nn_module_stack") or {})
        inner = next(reversed(list(stack.values())))[0] if stack else ""
        return f"{self.path}.{inner}" if inner else self.path

    def _output(
        self,
    ) -> tuple[
        tuple[TensorType, ...],
        tuple[tuple[int, ...], ...],
        Callable[[Sequence[torch.Tensor]], Any],
    ]:
        results = cast("tuple[Any, ...]", self.exported.graph.output_node().args[0])
        specs = self.exported.graph_signature.output_specs
        nodes: list[fx.Node] = []
        strides: list[tuple[int, ...]] = []
        template: list[Any] = []
        for value, spec in zip(results, specs, strict=True):
            if isinstance(spec.arg, TensorArgument):
                template.append(_Leaf(len(nodes)))
                nodes.append(self.env[value])
                # As empty_like lays it out: what is expanded or has gaps is made dense.
                strides.append(torch.empty_like(value.meta["val"]).stride())
            else:
                template.append(value)
        self.graph.output(tuple(nodes))
        types = tuple(cast(TensorType, n.meta["type"]) for n in nodes)
        structure = cast("pytree.TreeSpec", self.exported.call_spec.out_spec)

        def rebuild(tensors: Sequence[torch.Tensor]) -> Any:
            leaves = [tensors[v.index] if isinstance(v, _Leaf) else v for v in template]
            return pytree.tree_unflatten(leaves, structure)

        return types, tuple(strides), rebuild


@dataclass(frozen=True)
class _Leaf:
    index: int


def _type_of(value: Any) -> TensorType | tuple[TensorType | None, ...]:
    if isinstance(value, torch.Tensor):
        return TensorType.of(value)
    return tuple(TensorType.of(v) if isinstance(v, torch.Tensor) else None for v in value)
