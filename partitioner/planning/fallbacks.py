"""What is not on the backend that the target would rather use: why, what it costs, what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from partitioner.passes.costs import operations
from partitioner.passes.ops import op_name
from partitioner.planning.borders import nodes_of_segments
from partitioner.planning.cost import node_seconds, work_of
from partitioner.planning.estimate import PlanEstimate
from partitioner.planning.graphs import runs_of_graphs
from partitioner.planning.planned import Planned
from partitioner.program import Program
from partitioner.targets import Target

__all__ = ["ADVICE", "CHEAPER", "Fallback", "find_fallbacks", "preferred_backend"]

#: Stands for the code of nodes that the preferred backend takes and that are cheaper elsewhere.
CHEAPER = "cheaper"

#: code -> what to do where the backend itself has no advice.
ADVICE: Mapping[str, str] = {
    "op-unsupported": "write the step with other ops, or make it a host op (@partitioner.host_op)",
    "unproven": "try it where the backend is installed (partition plan --probe), or use other ops",
    "dtype": "cast to a dtype that the backend has before this line, or choose --precision",
    "rank": "reshape to fewer dimensions before this line and back after it",
    "dynamic-shape": "give the tensor a fixed size: pad it, or take the sizes of the examples",
    "data-dependent": "compute it in a host op, or pad to a fixed size and mask",
    "configuration": "call the op with arguments that the backend has",
    "policy": "this was asked for; leave out the override, or the rule of the backend",
    CHEAPER: "these follow if what is beside them moves; --place STAGE=BACKEND decides it",
}


@dataclass(frozen=True)
class Fallback:
    """Nodes with the same line and the same reason.

    Attributes:
        backend: that has them.
        preferred: that does not.
        code: of the rejection; :data:`CHEAPER` where there is none.
        source: line of the user's code; empty if unknown.
        ops: op -> how many nodes.
        segments: that hold them.
        operations: a request.
        share: of all operations of a request.
        seconds: a request, about what would be saved if the preferred backend took them: the
            difference between the devices, and their share of the segments' calls and transfers.
        advice: what to do.
    """

    backend: str
    preferred: str
    code: str
    message: str
    source: str
    ops: Mapping[str, int]
    segments: tuple[str, ...]
    operations: int
    share: float
    seconds: float
    advice: str


def preferred_backend(planned: Planned, target: Target) -> str:
    """The first backend of the target that was asked; empty where there was nothing to ask."""
    asked = {name for some in planned.placement.verdicts.takers.values() for name in some}
    asked.update(name for some in planned.placement.rejections.values() for name in some)
    return next((name for name in target.backends if name in asked), "")


def find_fallbacks(
    planned: Planned, program: Program, target: Target, estimate: PlanEstimate | None
) -> tuple[Fallback, ...]:
    """Groups of nodes that are not on the preferred backend, the most expensive first."""
    preferred = preferred_backend(planned, target)
    runs = runs_of_graphs(program)
    times = {graph: runs.get(name, 0) for name, graph in program.all_graphs()}
    groups: dict[tuple[str, ...], list[fx.Node]] = defaultdict(list)
    holders: dict[fx.Node, str] = {}
    total = 0
    for segment, nodes in nodes_of_segments(planned).items():
        for node in nodes:
            total += operations(node) * times[node.graph]
            backend = planned.placement.backends.get(node)
            if backend is not None and backend != preferred:
                groups[_key(planned, node, preferred, backend, segment)].append(node)
                holders[node] = segment
    overheads = _overheads(estimate, groups, holders)
    found: list[Fallback] = []
    for key, nodes in groups.items():
        backend, code, message, source, advice = key[:5]
        count = sum(operations(node) * times[node.graph] for node in nodes)
        seconds = sum(_saved(n, target, backend, preferred) * times[n.graph] for n in nodes)
        if code != CHEAPER:
            seconds += sum(overheads.get(node, 0.0) for node in nodes)
        found.append(
            Fallback(
                backend=backend,
                preferred=preferred,
                code=code,
                message=message,
                source=source,
                ops=dict(Counter(op_name(node) for node in nodes)),
                segments=tuple(dict.fromkeys(holders[node] for node in nodes)),
                operations=count,
                share=count / total if total else 0.0,
                seconds=seconds,
                advice=advice or ADVICE[code],
            )
        )
    # What can be got rid of comes before what only goes along.
    return tuple(sorted(found, key=lambda f: (f.code == CHEAPER, -f.seconds)))


def _key(
    planned: Planned, node: fx.Node, preferred: str, backend: str, segment: str
) -> tuple[str, ...]:
    rejected = planned.placement.rejections.get(node, {}).get(preferred)
    if rejected is None:
        message = f"{preferred} takes them, but with calls and borders they are cheaper here"
        return (backend, CHEAPER, message, "", "", segment)
    source = str(node.meta.get("source", ""))
    return (backend, rejected.code, rejected.message, source, rejected.advice)


def _saved(node: fx.Node, target: Target, backend: str, preferred: str) -> float:
    """Seconds of one run by which the preferred backend is faster; negative where it is not."""
    if not target.devices:
        return 0.0
    here, there = (target.device_of(name) for name in (backend, preferred))
    work = work_of(node)
    return node_seconds(work, here) - node_seconds(work, there)


def _overheads(
    estimate: PlanEstimate | None,
    groups: Mapping[tuple[str, ...], Sequence[fx.Node]],
    holders: Mapping[fx.Node, str],
) -> dict[fx.Node, float]:
    """Each rejected node's share of what the calls and transfers of its segment take."""
    if estimate is None:
        return {}
    flow = estimate.flow
    rejected = [node for key, nodes in groups.items() if key[1] != CHEAPER for node in nodes]
    segments = {s.name: s for s in estimate.segments}
    counts = Counter(holders[node] for node in rejected)
    costs = {name: segments[name].calls * segments[name].call_s for name in counts}
    for transfer in estimate.transfers:
        value = transfer.crossing.value
        ends = {flow.makers.get(value, ""), *flow.readers.get(value, ())} & costs.keys()
        for name in ends:
            costs[name] += transfer.seconds / len(ends)
    return {node: costs[holders[node]] / counts[holders[node]] for node in rejected}
