"""What is measured by itself: the segments of a plan, taken apart by stage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from partitioner.planning.cost import node_seconds, work_of
from partitioner.planning.graphs import reachable_graphs
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Part, cut_graph, make_part
from partitioner.program import Program, is_getitem
from partitioner.targets import Target

__all__ = ["Piece", "pieces_of"]

#: Work that is a smaller share of its segment than this is measured with what comes before it.
_SMALL = 0.03


@dataclass(frozen=True, eq=False)
class Piece:
    """Nodes that are measured together.

    Attributes:
        graph: name of the program's graph that they are in.
        takers: the backends that take all of them, in the target's order.
        estimate: backend -> seconds by the roofline.
    """

    graph: str
    part: Part
    takers: tuple[str, ...]
    estimate: dict[str, float]

    @property
    def label(self) -> str:
        """For people: its stages, or where its code stands."""
        return "+".join(self.part.stages) or (self.part.sources or ("glue",))[0]


def pieces_of(program: Program, planned: Planned, target: Target) -> list[Piece]:
    """The pieces of a plan, in a fixed order: runs of one stage, each convex.

    A segment's nodes stand in an order in which they can run, so that what stands between two
    places of it is convex, too.
    """
    found: list[Piece] = []
    for name, graph, live in reachable_graphs(program):
        needed = {*live, graph.output_node()}
        for part in cut_graph(graph, planned.placement, program.held, target.limits):
            if isinstance(part, Part):
                for nodes in _runs(part, target):
                    own = make_part(part.backend, nodes, needed, program.held)
                    found.append(_piece(name, own, planned, target))
    return found


def _piece(graph: str, part: Part, planned: Planned, target: Target) -> Piece:
    ops = [node for node in part.nodes if not is_getitem(node)]
    takers = planned.placement.verdicts.takers
    common = [b for b in target.backends if all(b in takers[node] for node in ops)]
    estimate = {name: _seconds(ops, target, name) for name in common}
    return Piece(graph, part, tuple(common), estimate)


def _seconds(nodes: Collection[fx.Node], target: Target, backend: str) -> float:
    device = target.device_of(backend)
    return sum(node_seconds(work_of(node), device) for node in nodes)


def _runs(part: Part, target: Target) -> Iterator[Sequence[fx.Node]]:
    """The nodes of a part, parted where another stage begins; small runs go with the one before."""
    runs: list[list[fx.Node]] = []
    last = ""
    for node in part.nodes:
        stage = str(node.meta.get("stage", "")).split(".")[0]
        starts = bool(stage) and stage != last and not is_getitem(node)
        if starts or not runs:
            runs.append([])
        last = stage or last
        runs[-1].append(node)
    weights = [_seconds([n for n in r if not is_getitem(n)], target, part.backend) for r in runs]
    merged: list[list[fx.Node]] = []
    for run, seconds in zip(runs, weights, strict=True):
        if merged and seconds < _SMALL * sum(weights):
            merged[-1] += run
        else:
            merged.append(run)
    yield from merged
