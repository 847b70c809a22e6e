"""Compute equal things once: equal nodes of a graph, and constants with equal content."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.base import Pass
from partitioner.passes.dependence import LoopSite, loop_sites
from partitioner.program import STRUCTURAL, Program

__all__ = ["EliminateCommon"]

#: Larger constants are compared by storage only; hashing gigabytes would not pay.
_HASHED_BYTES = 2**20


def _content_key(tensor: torch.Tensor) -> Hashable:
    """Equal for constants that hold the same."""
    place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
    if tensor.nbytes > _HASHED_BYTES or tensor.nbytes == 0:
        return place if tensor.nbytes else ("empty", tensor.dtype, tuple(tensor.shape))
    data: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return (hashlib.sha256(memoryview(data)).digest(), tensor.dtype, tuple(tensor.shape))


def _merge_constants(program: Program) -> bool:
    first: dict[Hashable, str] = {}
    renamed: dict[str, str] = {}
    for name, tensor in program.constants.items():
        kept = first.setdefault(_content_key(tensor), name)
        if kept != name:
            renamed[name] = kept
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            if node.op == "get_attr" and node.target in renamed:
                node.target = renamed[cast(str, node.target)]
    for name in renamed:
        del program.constants[name]
    return bool(renamed)


def _node_key(node: fx.Node, numbers: dict[fx.Node, int]) -> Hashable:
    if node.op == "get_attr":
        return ("get_attr", node.target)
    args = map_arg((node.args, node.kwargs), cast(Any, lambda n: _Operand(numbers[n])))
    return (node.target, _frozen(args), _frozen(node.meta["type"]))


@dataclass(frozen=True)
class _Operand:
    number: int


def _frozen(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(_frozen(v) for v in cast("list[Any]", value))
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(cast("dict[str, Any]", value).items()))
    # 1, 1.0 and True are one to Python, 0.0 and -0.0 too.
    return (type(value), repr(value)) if isinstance(value, int | float) else value


def _merge_nodes(graph: fx.Graph) -> bool:
    seen: dict[Hashable, fx.Node] = {}
    numbers: dict[fx.Node, int] = {}
    modified = False
    for node in list(graph.nodes):
        numbers[node] = len(numbers)
        # Structural ops stay: host ops may not be pure, and loops are too big to compare.
        if node.op not in ("call_function", "get_attr") or node.target in STRUCTURAL:
            continue
        kept = seen.setdefault(_node_key(node, numbers), node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            graph.erase_node(node)
            modified = True
    return modified


def _merge_invariants(site: LoopSite) -> bool:
    """Read what a body is given twice only once."""
    first: dict[fx.Node, fx.Node] = {}
    modified = False
    start = site.carries + site.slices
    for outer, inner in list(zip(site.given, site.inner, strict=True))[start:]:
        kept = first.setdefault(outer, inner)
        if kept is not inner and inner.users:
            inner.replace_all_uses_with(kept)
            modified = True
    return modified


@dataclass(frozen=True)
class EliminateCommon(Pass):
    """Common subexpressions, per graph, and equal constants."""

    name: ClassVar[str] = "eliminate-common"
    tolerance: ClassVar[float] = 0.0

    def apply(self, program: Program) -> bool:
        modified = _merge_constants(program)
        for _, graph in program.all_graphs():
            modified |= _merge_nodes(graph)
        # Loops come after what they are given, and bodies after the main graph.
        for site in loop_sites(program):
            if _merge_invariants(site):
                _merge_nodes(site.body)
                modified = True
        return modified
