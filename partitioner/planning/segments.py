"""Segments: convex sets of nodes that one backend compiles as a unit.

A graph is cut by levels (:mod:`partitioner.planning.levels`, where the proof is that the parts are
convex and their order acyclic). A part is then made into a segment: a graph of its own with its own
inputs and outputs. Constants belong to no part; whoever reads one has it, and the weights
themselves are stored once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.interpreter import run_nodes
from partitioner.planning.graphs import (
    is_structural,
    live_nodes,
    placeholders,
    results_of,
)
from partitioner.planning.limits import excess_of, split
from partitioner.planning.placement import Placement
from partitioner.program import TensorType, is_getitem, types_of

if TYPE_CHECKING:
    from partitioner.targets import Limits

__all__ = [
    "Part",
    "Segment",
    "cut_graph",
    "fingerprint",
    "make_part",
    "make_segment",
    "run_segment",
]

#: How many source lines a segment names.
_SOURCES = 5


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
    def where(self) -> str | None:
        """A source line, for messages."""
        return self.sources[0] if self.sources else None

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        return types_of(placeholders(self.graph))

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        return types_of(results_of(self.graph))


@dataclass(frozen=True, eq=False)
class Part:
    """A segment to be: nodes of a program's graph.

    Attributes:
        nodes: ops and their items, in the graph's order.
        inputs: values from outside, in the order in which they are first read; constants are among
            them only where they may not be compiled in.
        outputs: values that something outside reads, in order.
        split: the limit for which it is no longer one with the part before it; empty if none.
    """

    backend: str
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    split: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """The outermost stages of its nodes."""
        return distinct(n.meta.get("stage", "").split(".")[0] for n in self.nodes)

    @property
    def sources(self) -> tuple[str, ...]:
        """The first few source lines of its nodes."""
        return distinct(n.meta.get("source", "") for n in self.nodes)[:_SOURCES]


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text once, without empty ones."""
    return tuple(text for text in dict.fromkeys(texts) if text)


# --- the cut ------------------------------------------------------------------------------------


def cut_graph(
    graph: fx.Graph,
    placement: Placement,
    held: Collection[str] = (),
    limits: Mapping[str, Limits] | None = None,
) -> list[Part | fx.Node]:
    """Cut a graph into parts and structural nodes, in an order in which they can run.

    Args:
        held: names of constants that parts read from outside.
        limits: of segments, by backend.
    """
    live = live_nodes(graph)
    backends, levels = placement.backends, placement.levels
    members: dict[tuple[int, str | fx.Node], list[fx.Node]] = {}
    for node in live:
        if node in backends:
            op = cast(fx.Node, node.args[0]) if is_getitem(node) else node
            members.setdefault((levels[op], backends[node]), []).append(node)
        elif is_structural(node):
            members[levels[node], node] = [node]
    needed = {*live, graph.output_node()}
    # Levels order the parts. Parts of one level do not read one another, and sorting is stable:
    # they stay in the order of their first nodes.
    ordered = sorted(members.items(), key=lambda item: item[0][0])
    cut: list[Part | fx.Node] = []
    for (_, owner), nodes in ordered:
        if not isinstance(owner, str):
            cut.append(owner)
            continue
        own = (limits or {}).get(owner)
        excess = excess_of(nodes, own)
        for index, some in enumerate(split(nodes, own) if excess else [nodes]):
            reason = str(excess) if excess and index else ""
            cut.append(make_part(owner, some, needed, held, reason))
    return cut


def make_part(
    backend: str,
    nodes: Sequence[fx.Node],
    needed: Collection[fx.Node],
    held: Collection[str],
    split: str = "",
) -> Part:
    """The part of these nodes, which are convex and in the graph's order.

    Args:
        needed: nodes that somebody reads values for, the graph's output among them.
        held: as for :func:`cut_graph`.
        split: see :class:`Part`.
    """
    inside = set(nodes)
    inputs = dict.fromkeys(
        operand
        for node in nodes
        for operand in node.all_input_nodes
        if operand not in inside and (operand.op != "get_attr" or operand.target in held)
    )
    outputs = [
        node
        for node in nodes
        if isinstance(node.meta["type"], TensorType)
        and any(user in needed and user not in inside for user in node.users)
    ]
    return Part(backend, tuple(nodes), tuple(inputs), tuple(outputs), split)


# --- making -------------------------------------------------------------------------------------


def make_segment(name: str, part: Part) -> Segment:
    """The segment of a part: its nodes, copied into a graph of their own."""
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in part.inputs:
        env[node] = graph.create_node("placeholder", node.name, name=node.name)
        env[node].target = env[node].name
        env[node].meta.update(node.meta)
    for node in part.nodes:
        for operand in node.all_input_nodes:
            if operand not in env:
                env[operand] = graph.node_copy(operand)
        env[node] = graph.node_copy(node, lambda n: env[n])
    graph.output(tuple(env[node] for node in part.outputs))
    return Segment(
        name,
        part.backend,
        graph,
        tuple(env[node].name for node in part.inputs),
        tuple(env[node].name for node in part.outputs),
        part.stages,
        part.sources,
    )


def fingerprint(part: Part) -> str:
    """Equal for parts that do the same with the same constants, whatever their nodes' names."""
    numbers: dict[fx.Node, str] = {}
    lines = [part.backend]
    for node in part.inputs:
        numbers[node] = f"%{len(numbers)}"
        lines.append(f"{numbers[node]} {node.meta['type']}")

    def number(node: fx.Node) -> _Word:
        # A constant is known by its name, everything else by its place.
        return _Word(numbers.get(node, f"${node.target!r}"))

    for node in part.nodes:
        args, kwargs = map_arg((node.args, node.kwargs), number)
        numbers[node] = f"%{len(numbers)}"
        lines.append(f"{numbers[node]} {node.target} {args} {kwargs} {node.meta['type']}")
    lines.append(" ".join(numbers[node] for node in part.outputs))
    return "\n".join(lines)


class _Word(str):
    """Printed bare, so that no string among the arguments looks like it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def run_segment(
    segment: Segment, constants: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Run a segment eagerly: the reference for what a backend makes of it."""
    return run_nodes(segment.graph, constants, inputs)
