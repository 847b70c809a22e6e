"""Views of a program's graphs that planning shares: what is needed, and who makes which value."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, cast

from torch import fx

from partitioner.program import STRUCTURAL, Program, TensorType, call, is_getitem, loop

__all__ = [
    "UNKNOWN_BYTES",
    "is_op",
    "is_structural",
    "items_of",
    "live_nodes",
    "maker",
    "nbytes_of",
    "placeholders",
    "reachable_graphs",
    "results_of",
    "runs_of_graphs",
]

#: Stands for a size that only the data decide: larger than any that is known.
UNKNOWN_BYTES = 2**62


def is_structural(node: fx.Node) -> bool:
    """Whether a node is a loop, a call or a host op."""
    return node.target in STRUCTURAL


def is_op(node: fx.Node) -> bool:
    """Whether a node computes: an aten op or a structural one, but no ``getitem``."""
    return node.op == "call_function" and node.target is not operator.getitem


def maker(node: fx.Node) -> fx.Node | None:
    """The op that a value comes from, seen through ``getitem``; None for inputs and constants."""
    while is_getitem(node):
        node = cast(fx.Node, node.args[0])
    return node if node.op == "call_function" else None


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    """The inputs of a graph, in order."""
    return [node for node in graph.nodes if node.op == "placeholder"]


def results_of(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """The results of a graph, in order."""
    return cast("tuple[fx.Node, ...]", graph.output_node().args[0])


def items_of(node: fx.Node) -> dict[int, list[fx.Node]]:
    """The used items of an op with several results, by index; one index may occur twice."""
    items: dict[int, list[fx.Node]] = {}
    for user in node.users:
        if is_getitem(user) and user.users:
            items.setdefault(cast(int, user.args[1]), []).append(user)
    return items


def live_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that the graph's results depend on, in their order, without inputs and output.

    Programs are pure, so what nothing needs is not planned.
    """
    needed = set(results_of(graph))
    live: list[fx.Node] = []
    for node in reversed(graph.nodes):
        if node not in needed:
            continue
        needed.update(node.all_input_nodes)
        if node.op == "call_function":
            live.append(node)
    live.reverse()
    return live


def reachable_graphs(program: Program) -> Iterator[tuple[str, fx.Graph, list[fx.Node]]]:
    """The graphs that a run gets to, main first, each once, with their live nodes."""
    queue, seen = [("main", program.main)], {"main"}
    while queue:
        name, graph = queue.pop(0)
        live = live_nodes(graph)
        yield name, graph, live
        for node in live:
            inner = cast(str, node.args[0]) if node.target in (call, loop) else None
            if inner is not None and inner not in seen:
                seen.add(inner)
                queue.append((inner, program.graphs[inner]))


def runs_of_graphs(program: Program) -> dict[str, int]:
    """How often a request runs each graph that it gets to."""
    inner = {name: [n for n in live if n.target in (call, loop)]
             for name, _, live in reachable_graphs(program)}  # fmt: skip
    runs = dict.fromkeys(inner, 0)

    def run(name: str, times: int) -> None:
        runs[name] += times
        for node in inner[name]:
            trips = cast(int, node.args[2]) if node.target is loop else 1
            run(cast(str, node.args[0]), times * trips)

    run("main", 1)
    return runs


def nbytes_of(node: fx.Node) -> int:
    """Bytes of a node's value; of all its values where there are several."""
    type_: Any = node.meta["type"]
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    return sum(_part_bytes(part) for part in parts if part is not None)


def _part_bytes(part: TensorType) -> int:
    return UNKNOWN_BYTES if None in part.shape else part.nbytes
