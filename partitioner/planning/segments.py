"""Segments: convex sets of nodes that one backend compiles as a unit.

The cut goes by levels. A node's level rises by one on every edge that comes from a node of another
owner (another backend, or a structural op: a loop, a call, a host op). The nodes of one owner at
one level form a segment:

- *acyclic and convex*: along any edge the level never falls, and it rises whenever the owner
  changes. A path that leaves a segment and comes back to it would have to rise and end at the
  level at which it began.
- *near-linear*: one pass over nodes and edges in each direction.

The first pass puts every node as early as it can be. What is only needed later (a filter that is
made of constants for the last stage, say) would then cross borders for nothing, so a second pass,
from the end, puts nodes as late as their users allow where the users are their owner's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import fx

from partitioner.interpreter import run_nodes
from partitioner.program import STRUCTURAL, TensorType, node_type

__all__ = ["Cut", "Segment", "cut_graph", "run_segment"]


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        graph: placeholders (their targets are ``inputs``), constants by name, ops, and a flat
            tuple as output.
        stages: outermost stages whose nodes it holds, in order.
        sources: the first few source lines.
    """

    name: str
    backend: str
    graph: fx.Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stages: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        nodes = [n for n in self.graph.nodes if n.op == "placeholder"]
        return tuple(node_type(n) for n in nodes)

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        results = cast("tuple[fx.Node, ...]", self.graph.output_node().args[0])
        return tuple(node_type(n) for n in results)


@dataclass(frozen=True)
class Cut:
    """A graph, cut.

    Attributes:
        order: segments and structural nodes in an order in which they can run.
        inputs, outputs: of each segment: the graph's nodes that cross its borders.
    """

    order: tuple[Segment | fx.Node, ...]
    inputs: dict[str, tuple[fx.Node, ...]] = field(default_factory=dict[str, tuple[fx.Node, ...]])
    outputs: dict[str, tuple[fx.Node, ...]] = field(
        default_factory=dict[str, tuple[fx.Node, ...]]
    )


def cut_graph(graph: fx.Graph, backends: Mapping[fx.Node, str], taken: set[str]) -> Cut:
    """Cut one graph into segments.

    Args:
        backends: the backend of each aten node.
        taken: segment names in use; new ones are added.
    """
    nodes = [n for n in graph.nodes if n in backends]
    levels = _late(nodes, _early(graph, backends), backends)
    groups: dict[tuple[int, str], list[fx.Node]] = {}
    for node in nodes:
        groups.setdefault((levels[node], backends[node]), []).append(node)
    cut = Cut(())
    placed: list[tuple[int, int, Segment | fx.Node]] = []
    position = {node: i for i, node in enumerate(graph.nodes)}
    for (level, backend), members in groups.items():
        segment = _segment(members, backend, cut, taken)
        placed.append((level, position[members[0]], segment))
    for node in graph.nodes:
        if node.target in STRUCTURAL:
            placed.append((levels[node], position[node], node))
    placed.sort(key=lambda p: (p[0], p[1]))
    return Cut(tuple(p[2] for p in placed), cut.inputs, cut.outputs)


def run_segment(
    segment: Segment, constants: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Run a segment eagerly: the reference for what a backend makes of it."""
    return run_nodes(segment.graph, constants, inputs)


# --- levels -------------------------------------------------------------------------------------


def _producer(node: fx.Node) -> fx.Node | None:
    """The op a value comes from, seen through getitem; None for inputs and constants."""
    while node.op == "call_function" and node.target is operator.getitem:
        node = cast(fx.Node, node.args[0])
    return node if node.op == "call_function" else None


def _early(graph: fx.Graph, backends: Mapping[fx.Node, str]) -> dict[fx.Node, int]:
    """The first level at which each op can run."""
    levels: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op != "call_function" or (
            node.target is operator.getitem and node not in backends
        ):
            continue
        level = 0
        for operand in node.all_input_nodes:
            producer = _producer(operand)
            if producer is None:
                continue
            same = node in backends and backends.get(producer) == backends[node]
            level = max(level, levels[producer] + (0 if same else 1))
        levels[node] = level
    return levels


def _late(
    nodes: Sequence[fx.Node], levels: dict[fx.Node, int], backends: Mapping[fx.Node, str]
) -> dict[fx.Node, int]:
    """Move ops to the level of their users, where all users are later and of their owner."""
    for node in reversed(nodes):
        lowest: int | None = None
        for user in node.users:
            if user.op == "output" or backends.get(user) != backends[node]:
                lowest = None
                break
            lowest = levels[user] if lowest is None else min(lowest, levels[user])
        if lowest is not None and lowest > levels[node] and _narrows(node):
            levels[node] = lowest
    return levels


def _narrows(node: fx.Node) -> bool:
    """Whether moving an op later makes no border wider: it has no larger operands to carry."""
    type_ = node.meta["type"]
    size = type_.nbytes if isinstance(type_, TensorType) else 0
    inputs = [n for n in node.all_input_nodes if n.op != "get_attr"]
    carried = sum(n.meta["type"].nbytes for n in inputs if isinstance(n.meta["type"], TensorType))
    return carried <= size


# --- building -----------------------------------------------------------------------------------


def _segment(members: list[fx.Node], backend: str, cut: Cut, taken: set[str]) -> Segment:
    inside = set(members)
    inputs: dict[fx.Node, None] = {}
    for node in members:
        for operand in node.all_input_nodes:
            if operand not in inside and operand.op != "get_attr":
                inputs[operand] = None
    outputs = [n for n in members if any(u not in inside for u in n.users)]
    # Of an op with several results only the items can cross a border.
    outputs = [n for n in outputs if isinstance(n.meta["type"], TensorType)]
    graph = _subgraph(members, list(inputs), outputs)
    stages = _outermost(members)
    name = _unique(_label(stages), taken)
    cut.inputs[name] = tuple(inputs)
    cut.outputs[name] = tuple(outputs)
    sources = dict.fromkeys(n.meta.get("source", "") for n in members)
    return Segment(
        name,
        backend,
        graph,
        tuple(n.name for n in inputs),
        tuple(_output_names(outputs, inputs)),
        stages,
        tuple(s for s in sources if s)[:5],
    )


def _output_names(outputs: Sequence[fx.Node], inputs: Mapping[fx.Node, None]) -> list[str]:
    taken = {n.name for n in inputs}
    return [n.name if n.name not in taken else f"{n.name}_out" for n in outputs]


def _subgraph(
    members: Sequence[fx.Node], inputs: Sequence[fx.Node], outputs: Sequence[fx.Node]
) -> fx.Graph:
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in inputs:
        placeholder = graph.create_node("placeholder", node.name, name=node.name)
        placeholder.meta.update(node.meta)
        placeholder.target = node.name
        env[node] = placeholder

    def mapped(node: fx.Node) -> fx.Node:
        if node not in env:
            env[node] = graph.node_copy(node)
        return env[node]

    for node in members:
        for operand in node.all_input_nodes:
            mapped(operand)
        env[node] = graph.node_copy(node, lambda n: env[n])
    graph.output(tuple(env[n] for n in outputs))
    return graph


def _outermost(members: Sequence[fx.Node]) -> tuple[str, ...]:
    stages = dict.fromkeys(n.meta.get("stage", "").split(".")[0] for n in members)
    return tuple(s for s in stages if s)


def _label(stages: Sequence[str]) -> str:
    if not stages:
        return "glue"
    return "_".join(re.sub(r"\W", "_", stage) for stage in stages[:3])


def _unique(label: str, taken: set[str]) -> str:
    name, count = label, 1
    while name in taken:
        count += 1
        name = f"{label}_{count}"
    taken.add(name)
    return name
