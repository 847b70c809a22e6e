"""What the nodes of a loop's body depend on."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import cast

from torch import fx

from partitioner.program import Program, call, host, loop

__all__ = ["Depends", "LoopSite", "dependences", "loop_sites"]


class Depends(enum.Flag):
    """``Depends(0)`` is what depends on constants only."""

    #: On carried values, or on what else is new in each trip: noise.
    CARRY = enum.auto()
    #: On the step, by a table that is known at build time.
    STEP = enum.auto()
    #: On values that are known before the loop, but only once a request is there.
    REQUEST = enum.auto()


@dataclass
class LoopSite:
    """A loop node and the body that only it runs.

    Attributes:
        graph: that holds the node.
        node: the loop.
        body: its graph.
    """

    graph: fx.Graph
    node: fx.Node
    body: fx.Graph

    @property
    def trips(self) -> int:
        return cast(int, self.node.args[2])

    @property
    def carries(self) -> int:
        return cast(int, self.node.args[3])

    @property
    def slices(self) -> int:
        return cast(int, self.node.args[4])

    @property
    def given(self) -> tuple[fx.Node, ...]:
        """The loop's operands."""
        return cast("tuple[fx.Node, ...]", self.node.args[1])

    @property
    def inner(self) -> list[fx.Node]:
        """The body's placeholders, in the order of the operands."""
        return [n for n in self.body.nodes if n.op == "placeholder"]


def loop_sites(program: Program) -> list[LoopSite]:
    """The loops whose body nothing else runs, in the order of the graphs."""
    named: Counter[str] = Counter()
    for _, graph in program.all_graphs():
        named.update(cast(str, n.args[0]) for n in graph.nodes if n.target in (call, loop))
    return [
        LoopSite(graph, node, program.graphs[cast(str, node.args[0])])
        for _, graph in program.all_graphs()
        for node in graph.nodes
        if node.target is loop and named[cast(str, node.args[0])] == 1
    ]


def dependences(program: Program, site: LoopSite) -> dict[fx.Node, Depends]:
    """What each node of the body depends on.

    A host op may do what it likes, so it counts as depending on the carried values: it stays.
    """
    found: dict[fx.Node, Depends] = {}
    impure = _graphs_with_host_ops(program)
    for index, (inner, given) in enumerate(zip(site.inner, site.given, strict=True)):
        if index < site.carries:
            found[inner] = Depends.CARRY
        elif index < site.carries + site.slices:
            found[inner] = Depends.STEP if given.op == "get_attr" else Depends.CARRY
        else:
            found[inner] = Depends.REQUEST
    for node in site.body.nodes:
        if node.op == "placeholder":
            continue
        stays = node.target is host or (node.target in (call, loop) and node.args[0] in impure)
        flags = Depends.CARRY if stays else Depends(0)
        for operand in node.all_input_nodes:
            flags |= found[operand]
        found[node] = flags
    return found


def _graphs_with_host_ops(program: Program) -> set[str]:
    found = {n for n, g in program.graphs.items() if any(x.target is host for x in g.nodes)}
    grown = True
    while grown:
        callers = {
            name
            for name, graph in program.graphs.items()
            if any(n.target in (call, loop) and n.args[0] in found for n in graph.nodes)
        }
        grown = not callers <= found
        found |= callers
    return found
