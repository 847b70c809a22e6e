"""Levels: the numbers by which a graph is cut into segments.

Every op has an owner: its backend, or for a structural op (a loop, a call, a host op) itself.
Levels are whole numbers such that along every edge

    the level never falls, and it rises where the owner changes.          (*)

The ops of one backend at one level are then a segment, whatever numbers satisfy (*):

- *convex*: a path that leaves a segment goes to an op of another owner or of another level, and
  either way the level has risen. It cannot come back to the level that it started from.

      a0 ----> a0          a0 and a0 are one segment; b has another owner,
       \\                   so it is at level 1 and what it feeds at level 2,
        `-> b1 ---> a2     which is not the segment of level 0

- *acyclic*: an edge between two segments raises the level, so levels order the segments.

Many assignments satisfy (*). This one is made in three sweeps, each linear in nodes and edges:

1. *rise*: every op as early as it can be. There are then as many levels as the longest path has
   changes of owner, and no fewer would do.
2. *sink*: from the end, an op goes to the level of its first user, if that is of its backend and
   no border gets wider. So a filter that is computed from constants for the last stage does not
   travel through all segments before it.
3. *merge*: a segment that has nothing to do before a later segment of its backend joins it, again
   if no border gets wider. So the glue before a loop that only matters behind it costs no call.

A border is as wide as the values that must be held across it. Constants are not held, nor are the
graph's own inputs, which their owner has anyway.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx

from partitioner.planning.graphs import maker, nbytes_of, results_of
from partitioner.program import is_getitem

__all__ = ["assign_levels"]

#: Later than every level: when a graph's results are read.
_END = 2**62


def assign_levels(
    graph: fx.Graph, live: Sequence[fx.Node], backends: Mapping[fx.Node, str]
) -> dict[fx.Node, int]:
    """The level of each op of a graph.

    Args:
        live: the nodes to consider, in order.
        backends: of each aten op; ops without one are structural.
    """
    flow = _flow(graph, live, backends)
    levels = _rise(flow)
    _sink(flow, levels)
    _merge(flow, levels)
    return levels


@dataclass
class _Flow:
    """Who reads what.

    Attributes:
        ops: in order.
        owners: a backend's name, or the op itself.
        reads: the values that an op takes from other ops, each once.
        makers: value -> op.
        makes: op -> its values, where it has several those that are taken.
        readers: value -> the ops that read it.
        last: value -> the highest level that reads it, as far as levels have been settled.
        free: values that hold nothing back: they depend on constants alone.
    """

    ops: list[fx.Node] = field(default_factory=list[fx.Node])
    owners: dict[fx.Node, fx.Node | str] = field(default_factory=dict[fx.Node, "fx.Node | str"])
    reads: dict[fx.Node, list[fx.Node]] = field(default_factory=dict[fx.Node, list[fx.Node]])
    makers: dict[fx.Node, fx.Node] = field(default_factory=dict[fx.Node, fx.Node])
    makes: dict[fx.Node, list[fx.Node]] = field(default_factory=dict[fx.Node, list[fx.Node]])
    readers: dict[fx.Node, list[fx.Node]] = field(default_factory=dict[fx.Node, list[fx.Node]])
    last: dict[fx.Node, int] = field(default_factory=dict[fx.Node, int])
    free: set[fx.Node] = field(default_factory=set[fx.Node])


def _flow(graph: fx.Graph, live: Sequence[fx.Node], backends: Mapping[fx.Node, str]) -> _Flow:
    flow = _Flow()
    for node in live:
        op = maker(node)
        assert op is not None
        if not is_getitem(node):
            flow.ops.append(op)
            flow.owners[op] = backends.get(op, op)
            flow.reads[op] = [v for v in node.all_input_nodes if maker(v) is not None]
            flow.makes[op] = []
            for value in flow.reads[op]:
                flow.readers[value].append(op)
            fixed = all(v.op == "get_attr" or v in flow.free for v in node.all_input_nodes)
            if fixed and node in backends:
                flow.free.add(node)
        elif op in flow.free:
            flow.free.add(node)
        flow.makers[node] = op
        flow.readers[node] = []
        if not isinstance(node.meta["type"], tuple):
            flow.makes[op].append(node)
    for node in results_of(graph):
        flow.last[node] = _END
    return flow


def _rise(flow: _Flow) -> dict[fx.Node, int]:
    levels: dict[fx.Node, int] = {}
    for op in flow.ops:
        level = 0
        for value in flow.reads[op]:
            source = flow.makers[value]
            level = max(level, levels[source] + (flow.owners[source] != flow.owners[op]))
        levels[op] = level
    return levels


def _sink(flow: _Flow, levels: dict[fx.Node, int]) -> None:
    for op in reversed(flow.ops):
        latest = _latest(flow, levels, [op])
        can = latest > levels[op] and _meets(flow, levels, op, latest)
        if can and _narrows(flow, [op], latest):
            levels[op] = latest
        _settle(flow, op, levels[op])


def _merge(flow: _Flow, levels: dict[fx.Node, int]) -> None:
    groups: dict[tuple[int, str], list[fx.Node]] = {}
    for op in flow.ops:
        owner = flow.owners[op]
        if isinstance(owner, str):
            groups.setdefault((levels[op], owner), []).append(op)
    kept: dict[str, list[int]] = {}
    for level, backend in sorted(groups, reverse=True):
        ops = groups[level, backend]
        later = kept.setdefault(backend, [])
        index = bisect_right(later, _latest(flow, levels, ops)) - 1
        if index < 0 or not _narrows(flow, ops, later[index]):
            insort(later, level)
            continue
        for op in ops:
            levels[op] = later[index]
            _settle(flow, op, later[index])


def _settle(flow: _Flow, op: fx.Node, level: int) -> None:
    for value in flow.reads[op]:
        flow.last[value] = max(flow.last.get(value, 0), level)


def _latest(flow: _Flow, levels: Mapping[fx.Node, int], ops: Sequence[fx.Node]) -> int:
    """The latest level for ops of one owner, together, by those who read their values."""
    inside, owner = set(ops), flow.owners[ops[0]]
    return min(
        (
            levels[reader] - (flow.owners[reader] != owner)
            for op in ops
            for value in flow.makes[op]
            for reader in flow.readers[value]
            if reader not in inside
        ),
        default=_END,
    )


def _meets(flow: _Flow, levels: Mapping[fx.Node, int], op: fx.Node, level: int) -> bool:
    """Whether an op of the same backend reads a value of ``op`` at this level."""
    return any(
        levels[reader] == level and flow.owners[reader] == flow.owners[op]
        for value in flow.makes[op]
        for reader in flow.readers[value]
    )


def _narrows(flow: _Flow, ops: Sequence[fx.Node], level: int) -> bool:
    """Whether ops, moved up to ``level``, have no more to wait for than now waits for it."""
    inside = set(ops)
    held = {
        value
        for op in ops
        for value in flow.reads[op]
        if flow.makers[value] not in inside
        and value not in flow.free
        and flow.last.get(value, 0) < level
    }
    given = (
        value
        for op in ops
        for value in flow.makes[op]
        if flow.last.get(value) == _END or any(r not in inside for r in flow.readers[value])
    )
    return sum(map(nbytes_of, held)) <= sum(map(nbytes_of, given))
