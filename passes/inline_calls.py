"""Inline sub-graphs that are called from one place.

A stage called from several places stays a sub-graph, so that it is compiled once; one that is
called from a single place melts into its surroundings, so that glue is fused with it. A call in a
loop's body is one place.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import fx

from partitioner.passes.base import Pass
from partitioner.program import Program, call, loop, operands

__all__ = ["InlineCalls"]


def _sites(program: Program) -> Counter[str]:
    """How many nodes name each sub-graph."""
    sites: Counter[str] = Counter()
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            if node.target in (call, loop):
                sites[cast(str, node.args[0])] += 1
    return sites


def _inline(program: Program, graph: fx.Graph, node: fx.Node) -> None:
    """Put the called graph's nodes before ``node`` and take ``node`` away."""
    body = program.graphs[cast(str, node.args[0])]
    env: dict[fx.Node, fx.Node] = {}
    given = iter(operands(node))
    results: tuple[fx.Node, ...] = ()
    with graph.inserting_before(node):
        for inner in body.nodes:
            if inner.op == "placeholder":
                env[inner] = next(given)
            elif inner.op == "output":
                results = tuple(env[n] for n in cast("tuple[fx.Node, ...]", inner.args[0]))
            else:
                env[inner] = graph.node_copy(inner, lambda n: env[n])
    for item in list(node.users):
        assert item.target is operator.getitem
        item.replace_all_uses_with(results[cast(int, item.args[1])])
        graph.erase_node(item)
    graph.erase_node(node)


def _drop_unused(program: Program) -> bool:
    unused = set(program.graphs) - set(_sites(program))
    for name in unused:
        del program.graphs[name]
    return bool(unused)


@dataclass(frozen=True)
class InlineCalls(Pass):
    """Inline what is called once; drop graphs that are never called."""

    name: ClassVar[str] = "inline-calls"
    tolerance: ClassVar[float] = 0.0

    def apply(self, program: Program) -> bool:
        modified = _drop_unused(program)
        while True:
            sites = _sites(program)
            found = [
                (graph, node)
                for _, graph in program.all_graphs()
                for node in graph.nodes
                if node.target is call and sites[cast(str, node.args[0])] == 1
            ]
            if not found:
                return modified
            # One round inlines all calls whose graph does not itself wait for inlining.
            for graph, node in found:
                _inline(program, graph, node)
            _drop_unused(program)
            modified = True
