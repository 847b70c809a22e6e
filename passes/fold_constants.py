"""Compute at build time what depends on constants only.

A budget bounds how much the constants may grow in all. A result that takes the place of operands
that die with it (a transposed weight) costs nothing; an index tensor made of ``arange`` may be
gigabytes, and then stays an op. Constants that reach a loop's body or a sub-graph as operands are
sunk into it first, so that folding goes on there.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.base import Pass
from partitioner.passes.ops import op_name
from partitioner.program import STRUCTURAL, Program, TensorType, add_node, call, loop, operands

__all__ = ["FoldConstants"]

#: A tensor filled with one value is cheaper as an op than as data, unless it is this small.
_FILL_BYTES = 64 * 2**10

_FILLS = frozenset(
    ["full", "zeros", "ones", "empty", "full_like", "zeros_like", "ones_like", "expand"]
)


def _is_pure(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and (
        torch.Tag.nondeterministic_seeded not in node.target.tags or "attention" in node.name
    )


def _result_bytes(node: fx.Node) -> int:
    type_ = node.meta["type"]
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    return sum(part.nbytes for part in parts if part is not None)


@dataclass
class _Folder:
    """One program being folded."""

    program: Program
    budget: int
    uses: Counter[str] = field(default_factory=Counter[str])
    modified: bool = False

    def run(self) -> None:
        for _, graph in self.program.all_graphs():
            for node in graph.nodes:
                if node.op == "get_attr":
                    self.uses[cast(str, node.target)] += len(node.users)
        for _, graph in self.program.all_graphs():
            for node in list(graph.nodes):
                if node.op == "call_function" and self._foldable(node):
                    self._fold(graph, node)

    def _foldable(self, node: fx.Node) -> bool:
        if node.target in STRUCTURAL or node.target is operator.getitem or not _is_pure(node):
            return False
        inputs = node.all_input_nodes
        if not all(n.op == "get_attr" for n in inputs):
            return False
        size = _result_bytes(node)
        if op_name(node) in _FILLS and size > _FILL_BYTES:
            return False
        return size - self._dying_bytes(node) <= self.budget

    def _dying_bytes(self, node: fx.Node) -> int:
        """Bytes of the constants that nothing else uses."""
        names = {cast(str, n.target) for n in node.all_input_nodes if len(n.users) == 1}
        return sum(self.program.constants[n].nbytes for n in names if self.uses[n] == 1)

    def _fold(self, graph: fx.Graph, node: fx.Node) -> None:
        dying = self._dying_bytes(node)
        inputs = node.all_input_nodes
        args, kwargs = map_arg(
            (node.args, node.kwargs), lambda n: self.program.constants[cast(str, n.target)]
        )
        with torch.no_grad():
            result = cast(Any, node.target)(*cast("Any", args), **cast("Any", kwargs))
        for operand in inputs:
            self.uses[cast(str, operand.target)] -= 1
        multiple = isinstance(node.meta["type"], tuple)
        parts = cast("list[torch.Tensor]", list(result) if multiple else [result])
        for index, tensor in enumerate(parts):
            users = [u for u in node.users if u.args[1] == index] if multiple else [node]
            if users:
                self._replace(graph, node, users, tensor, index if multiple else None)
        graph.erase_node(node)
        self.budget -= sum(t.nbytes for t in parts) - dying
        self.modified = True

    def _replace(
        self,
        graph: fx.Graph,
        node: fx.Node,
        users: list[fx.Node],
        tensor: torch.Tensor,
        index: int | None,
    ) -> None:
        stem = next(
            (str(n.target) for n in node.all_input_nodes), node.meta.get("stage") or "const"
        )
        suffix = op_name(node) if index is None else f"{op_name(node)}_{index}"
        name = self.program.add_constant(f"{stem}.{suffix}", tensor)
        with graph.inserting_before(node):
            constant = add_node(graph, "get_attr", name, type=TensorType.of(tensor), like=node)
        for user in users:
            user.replace_all_uses_with(constant)
            if user is not node:
                graph.erase_node(user)
        self.uses[name] = len(constant.users)


# --- sinking ------------------------------------------------------------------------------------


def _replace_placeholder(program: Program, body: fx.Graph, inner: fx.Node, name: str) -> None:
    # Placeholders stand first; the constant goes behind them.
    last = [n for n in body.nodes if n.op == "placeholder"][-1]
    with body.inserting_after(last):
        constant = add_node(
            body, "get_attr", name, type=TensorType.of(program.constants[name]), like=inner
        )
    inner.replace_all_uses_with(constant)
    body.erase_node(inner)


def _sink_into_loop(program: Program, node: fx.Node) -> bool:
    name, given, trips, carries, slices = cast("tuple[str, Any, int, int, int]", node.args)
    body = program.graphs[name]
    inner = [n for n in body.nodes if n.op == "placeholder"]
    first = carries + slices
    sunk = {i for i in range(first, len(given)) if given[i].op == "get_attr"}
    for index in sorted(sunk):
        _replace_placeholder(program, body, inner[index], cast(str, given[index].target))
    kept = tuple(n for i, n in enumerate(given) if i not in sunk)
    node.args = (name, kept, trips, carries, slices)
    return bool(sunk)


def _sink_into_calls(program: Program, name: str, sites: list[fx.Node]) -> bool:
    body = program.graphs[name]
    inner = [n for n in body.nodes if n.op == "placeholder"]
    sunk: set[int] = set()
    for index, placeholder in enumerate(inner):
        given = {operands(site)[index] for site in sites}
        targets = {n.target for n in given}
        if len(targets) == 1 and all(n.op == "get_attr" for n in given):
            _replace_placeholder(program, body, placeholder, cast(str, targets.pop()))
            sunk.add(index)
    for site in sites:
        site.args = (name, tuple(n for i, n in enumerate(operands(site)) if i not in sunk))
    return bool(sunk)


def _sink(program: Program) -> bool:
    modified = False
    calls: dict[str, list[fx.Node]] = {}
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            if node.target is loop:
                modified |= _sink_into_loop(program, node)
            elif node.target is call:
                calls.setdefault(cast(str, node.args[0]), []).append(node)
    for name, sites in sorted(calls.items()):
        modified |= _sink_into_calls(program, name, sites)
    return modified


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Fold nodes without variable operands.

    Args:
        budget: by how many bytes the constants may grow in all.
    """

    budget: int = 64 * 2**20

    name: ClassVar[str] = "fold-constants"

    def apply(self, program: Program) -> bool:
        modified = False
        while True:
            sunk = _sink(program)
            folder = _Folder(program, self.budget)
            folder.run()
            if not (sunk or folder.modified):
                return modified
            modified = True
