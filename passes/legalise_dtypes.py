"""Give values dtypes that the target has.

float64 becomes float32, int64 and int16 become int32, bfloat16 and float16 become float32, where
the target does not compute in them. Inputs, outputs and what host ops see keep their dtypes, by
casts at the border. Whole numbers that do not fit are an error; sums of numbers that fit are not
looked at.

The result is that of the other dtype: more digits for the small floats, fewer for float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name
from partitioner.passes.retyping import cast_constant, cast_node, dtype_of, inferred_type
from partitioner.program import (
    Program,
    TensorType,
    call,
    host,
    is_getitem,
    loop,
    node_type,
)

__all__ = ["LegaliseDtypes"]

#: What stands in for a dtype that is missing.
_INSTEAD = {
    torch.float64: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.int64: torch.int32,
    torch.int16: torch.int32,
}

#: Ops whose indices are int64, whatever the target has, and which argument the indices are. torch
#: wants it so, and for ``index`` and ``index_put`` ONNX does (GatherND, ScatterND).
_INDICES = {
    "gather": 2,
    "index": 1,
    "index_copy": 2,
    "index_put": 1,
    "index_select": 2,
    "scatter": 2,
    "scatter_add": 2,
    "scatter_reduce": 2,
    "take": 1,
}


class _Legaliser:
    """Retypes one program."""

    def __init__(self, program: Program, legal: frozenset[torch.dtype]) -> None:
        self._program, self._legal = program, legal
        self.count = 0

    def is_needed(self) -> bool:
        return any(
            part is not None and self._is_illegal(part.dtype)
            for _, graph in self._program.all_graphs()
            for node in graph.nodes
            if node.op != "output"
            for part in _parts(node)
        )

    def run(self) -> None:
        for name, graph in self._program.all_graphs():
            for node in list(graph.nodes):
                self._visit(graph, node, border=name == "main")

    def _is_illegal(self, dtype: torch.dtype) -> bool:
        return dtype not in self._legal and dtype in _INSTEAD

    def _legal_type(self, type_: Any) -> Any:
        if isinstance(type_, tuple):
            return tuple(map(self._legal_type, cast("tuple[Any, ...]", type_)))
        if type_ is None or not self._is_illegal(type_.dtype):
            return type_
        return TensorType(type_.shape, _INSTEAD[type_.dtype])

    def _visit(self, graph: fx.Graph, node: fx.Node, *, border: bool) -> None:
        if node.op == "output":
            if border:
                self._restore_outputs(graph, node)
        elif node.op == "placeholder" and border:
            self._cast_after(graph, node)
        elif node.op == "placeholder" or node.target in (call, loop):
            node.meta["type"] = self._legal_type(node.meta["type"])
        elif node.op == "get_attr":
            self._constant(node)
        elif node.target is host:
            self._host(graph, node)
        elif is_getitem(node):
            self._item(graph, node)
        else:
            self._op(graph, node)

    def _constant(self, node: fx.Node) -> None:
        wanted = self._legal_type(node_type(node))
        if wanted != node_type(node):
            lines = [n.meta.get("source", "") for n in (node, *node.users)]
            source = next((line for line in lines if line), "")
            node.target = cast_constant(self._program, cast(str, node.target), wanted.dtype, source)
            node.meta["type"] = wanted
            self.count += 1

    def _item(self, graph: fx.Graph, node: fx.Node) -> None:
        source = cast(fx.Node, node.args[0])
        node.meta["type"] = source.meta["type"][node.args[1]]
        self._cast_after(graph, node)

    def _op(self, graph: fx.Graph, node: fx.Node) -> None:
        asked = node.kwargs.get("dtype")
        if isinstance(asked, torch.dtype) and self._is_illegal(asked):
            node.update_kwarg("dtype", _INSTEAD[asked])
        if op_name(node) in _INDICES:
            self._widen_indices(graph, node)
        node.meta["type"] = inferred_type(node)
        if not isinstance(node.meta["type"], tuple):
            self._cast_after(graph, node)

    def _widen_indices(self, graph: fx.Graph, node: fx.Node) -> None:
        position = _INDICES[op_name(node)]

        def widen(operand: fx.Node) -> fx.Node:
            # Masks are indices, too, and stay masks.
            narrow = node_type(operand).dtype == torch.int32
            return cast_node(graph, operand, torch.int64, node) if narrow else operand

        with graph.inserting_before(node):
            indices = fx.map_arg(node.args[position], widen)
        node.update_arg(position, indices)

    def _cast_after(self, graph: fx.Graph, node: fx.Node) -> None:
        """What a node gives by its nature, in a dtype that the target has."""
        wanted = self._legal_type(node_type(node))
        if wanted == node_type(node) or not node.users:
            return
        with graph.inserting_after(node):
            legal = cast_node(graph, node, wanted.dtype, node)
        legal.meta["dtype before"] = _original(node)
        node.replace_all_uses_with(legal, delete_user_cb=lambda user: user is not legal)
        self.count += 1

    def _host(self, graph: fx.Graph, node: fx.Node) -> None:
        """A host op is given what it was given in eager."""
        operands = cast("tuple[fx.Node, ...]", node.args[1])
        original = [_original(n) for n in operands]
        with graph.inserting_before(node):
            given = tuple(
                n if node_type(n).dtype == dtype else cast_node(graph, n, dtype, node)
                for n, dtype in zip(operands, original, strict=True)
            )
        node.args = (node.args[0], given, node.args[2])

    def _restore_outputs(self, graph: fx.Graph, node: fx.Node) -> None:
        results = cast("tuple[fx.Node, ...]", node.args[0])
        restored: list[fx.Node] = []
        with graph.inserting_before(node):
            for result in results:
                dtype = _original(result)
                same = node_type(result).dtype == dtype
                restored.append(result if same else cast_node(graph, result, dtype, result))
        node.args = (tuple(restored),)


def _parts(node: fx.Node) -> list[TensorType | None]:
    type_ = node.meta["type"]
    return list(cast("tuple[Any, ...]", type_)) if isinstance(type_, tuple) else [type_]


def _original(node: fx.Node) -> torch.dtype:
    """The dtype that a value had before the pass."""
    return cast(torch.dtype, node.meta["dtype before"])


@dataclass(frozen=True)
class LegaliseDtypes(Pass):
    """Replace dtypes that are not in a list.

    Args:
        dtypes: what the target computes in, joined by ``+``; empty for all there are.
    """

    dtypes: str = ""

    name: ClassVar[str] = "legalise-dtypes"
    # What replaces bfloat16 has more digits: three of eager's are right.
    tolerance: ClassVar[float] = 1e-2
    keeps_values: ClassVar[bool] = False

    def apply(self, program: Program) -> bool:
        if not self.dtypes:
            return False
        legal = frozenset(dtype_of(name, self.name) for name in self.dtypes.split("+"))
        legaliser = _Legaliser(program, legal)
        if not legaliser.is_needed():
            return False
        _remember_dtypes(program)
        legaliser.run()
        note(f"values have dtypes that the target has: {legaliser.count} casts")
        return True


def _remember_dtypes(program: Program) -> None:
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            type_ = node.meta.get("type")
            if isinstance(type_, TensorType):
                node.meta["dtype before"] = type_.dtype
