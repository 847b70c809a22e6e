"""Remove what nothing uses: nodes, carried values, slices, results of sub-graphs, constants.

Draws stay even where their numbers are unused: a draw advances the generator, so leaving one out
would change every number after it.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import fx

from partitioner.passes.base import Pass
from partitioner.program import Program, call, loop, operands

__all__ = ["EliminateDead"]


def _dead_nodes(graph: fx.Graph) -> bool:
    modified = False
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("output", "placeholder"):
            graph.erase_node(node)
            modified = True
    return modified


def _placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "placeholder"]


def _results(graph: fx.Graph) -> tuple[fx.Node, ...]:
    return cast("tuple[fx.Node, ...]", graph.output_node().args[0])


def _keep_results(graph: fx.Graph, node: fx.Node, keep: list[int]) -> None:
    """Renumber the items taken of ``node`` after only results ``keep`` are left."""
    number = {old: new for new, old in enumerate(keep)}
    for item in list(node.users):
        if item.target is operator.getitem:
            item.args = (node, number[cast(int, item.args[1])])
    types = node.meta["type"]
    node.meta["type"] = tuple(types[i] for i in keep)


def _used_items(node: fx.Node) -> set[int]:
    return {cast(int, n.args[1]) for n in node.users if n.target is operator.getitem}


def _shrink_loop(graph: fx.Graph, node: fx.Node, body: fx.Graph) -> bool:
    """Drop carries, slices, invariants and collected values that nothing reads."""
    _, given, trips, carries, slices = cast(
        "tuple[str, tuple[fx.Node, ...], int, int, int]", node.args
    )
    inner, results, used = _placeholders(body), _results(body), _used_items(node)
    live = _live_carries(inner[:carries], results, used)
    keep_in = [i for i in range(len(inner)) if (i in live if i < carries else inner[i].users)]
    keep_out = [i for i in range(len(results)) if (i in live if i < carries else i in used)]
    if len(keep_in) == len(inner) and len(keep_out) == len(results):
        return False
    body.output_node().args = (tuple(results[i] for i in keep_out),)
    dropped = [inner[i] for i in range(len(inner)) if i not in set(keep_in)]
    _dead_nodes(body)
    for placeholder in dropped:
        body.erase_node(placeholder)
    kept_carries = sum(i < carries for i in keep_in)
    kept_slices = sum(carries <= i < carries + slices for i in keep_in)
    node.args = (node.args[0], tuple(given[i] for i in keep_in), trips, kept_carries, kept_slices)
    _keep_results(graph, node, keep_out)
    return True


def _live_carries(inner: list[fx.Node], results: tuple[fx.Node, ...], used: set[int]) -> set[int]:
    """Carries whose final value is used, or which such a carry, or a collected value, needs."""
    carries = len(inner)
    position = {node: i for i, node in enumerate(inner)}
    live: set[int] = set()
    pending = [i for i in range(len(results)) if i in used]
    seen: set[fx.Node] = set()
    while pending:
        index = pending.pop()
        if index < carries:
            live.add(index)
        stack = [results[index]]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in position and position[node] not in live:
                live.add(position[node])
                pending.append(position[node])
            stack.extend(node.all_input_nodes)
    return live & set(range(carries))


def _shrink_calls(program: Program, name: str) -> bool:
    """Drop results of a sub-graph that no call site uses, and operands it does not."""
    body = program.graphs[name]
    sites = [
        (graph, node)
        for _, graph in program.all_graphs()
        for node in graph.nodes
        if node.target is call and node.args[0] == name
    ]
    inner, results = _placeholders(body), _results(body)
    used: set[int] = set().union(*(_used_items(node) for _, node in sites))
    keep_out = [i for i in range(len(results)) if i in used]
    body.output_node().args = (tuple(results[i] for i in keep_out),)
    modified = _dead_nodes(body) or len(keep_out) != len(results)
    keep_in = [i for i, node in enumerate(inner) if node.users]
    for node in inner:
        if not node.users:
            body.erase_node(node)
            modified = True
    if modified:
        for graph, node in sites:
            given = operands(node)
            node.args = (name, tuple(given[i] for i in keep_in))
            _keep_results(graph, node, keep_out)
    return modified


def _shrink_structure(program: Program) -> bool:
    modified = False
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            if node.target is loop:
                modified |= _shrink_loop(graph, node, program.graphs[cast(str, node.args[0])])
    called = {n.args[0] for _, g in program.all_graphs() for n in g.nodes if n.target is call}
    for name in sorted(cast("set[str]", called)):
        modified |= _shrink_calls(program, name)
    return modified


def _drop_unreferenced(program: Program) -> bool:
    graphs = {
        n.args[0] for _, g in program.all_graphs() for n in g.nodes if n.target in (call, loop)
    }
    dead_graphs = [name for name in program.graphs if name not in graphs]
    for name in dead_graphs:
        del program.graphs[name]
    named = {n.target for _, g in program.all_graphs() for n in g.nodes if n.op == "get_attr"}
    dead = [name for name in program.constants if name not in named]
    for name in dead:
        del program.constants[name]
    return bool(dead_graphs or dead)


def _drop_unused_inputs(program: Program) -> bool:
    given = {spec.name for spec in program.inputs}
    dead = [n for n in _placeholders(program.main) if not n.users and n.target in given]
    names = {n.target for n in dead}
    for node in dead:
        program.main.erase_node(node)
    program.inputs = tuple(
        dataclasses.replace(spec, used=False) if spec.name in names else spec
        for spec in program.inputs
    )
    return bool(dead)


@dataclass(frozen=True)
class EliminateDead(Pass):
    """Remove what nothing uses, until there is no more."""

    name: ClassVar[str] = "eliminate-dead"
    tolerance: ClassVar[float] = 0.0

    def apply(self, program: Program) -> bool:
        modified = False
        while True:
            changed = False
            for _, graph in program.all_graphs():
                changed |= _dead_nodes(graph)
            changed |= _shrink_structure(program)
            changed |= _drop_unreferenced(program)
            changed |= _drop_unused_inputs(program)
            if not changed:
                return modified
            modified = True
