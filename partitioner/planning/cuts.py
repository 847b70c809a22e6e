"""Cut a segment short: the part of it up to a node, with everything that is read from it later.

By such cuts the first node that a backend computes wrongly is found: all values that cross a cut
before it are right, and its own crosses the next cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import fx

from partitioner.plan import SegmentInfo
from partitioner.planning.graphs import placeholders, results_of
from partitioner.planning.segments import Segment
from partitioner.program import TensorType, is_getitem, types_of

__all__ = ["cut_after", "first_failing", "info_of", "ops_of"]


def ops_of(segment: Segment) -> list[fx.Node]:
    """The places of cuts: the segment's ops, in order."""
    return [n for n in segment.graph.nodes if n.op == "call_function" and not is_getitem(n)]


def cut_after(segment: Segment, count: int) -> tuple[Segment, tuple[fx.Node, ...]]:
    """A segment of the first ``count`` ops.

    Returns:
        the segment, whose outputs are the values that the rest, or the whole segment's result,
        reads; and their nodes in the whole segment.
    """
    kept = set(ops_of(segment)[:count])
    kept |= {n for n in segment.graph.nodes if is_getitem(n) and n.args[0] in kept}
    crossing = tuple(
        node
        for node in segment.graph.nodes
        if node in kept
        and isinstance(node.meta["type"], TensorType)
        and any(user not in kept for user in node.users)
    )
    needed = {operand for node in kept for operand in node.all_input_nodes}
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in segment.graph.nodes:
        if node in kept or (node in needed and node.op in ("placeholder", "get_attr")):
            env[node] = graph.node_copy(node, lambda n: env[n])
    graph.output(tuple(env[node] for node in crossing))
    inputs = tuple(name for name in segment.inputs if name in {n.name for n in needed})
    names = tuple(node.name for node in crossing)
    cut = replace(
        segment, name=f"{segment.name}.{count}", graph=graph, inputs=inputs, outputs=names
    )
    return cut, crossing


def info_of(segment: Segment) -> SegmentInfo:
    """A segment as executors know it."""
    results = types_of(results_of(segment.graph))
    given = types_of(placeholders(segment.graph))
    return SegmentInfo(
        segment.name,
        segment.backend,
        tuple((name, type_.spec) for name, type_ in zip(segment.inputs, given, strict=True)),
        tuple((name, type_.spec) for name, type_ in zip(segment.outputs, results, strict=True)),
        segment.stages,
        len(segment.graph.nodes),
        segment.sources,
    )


def first_failing(count: int, fails: Callable[[int], bool]) -> int:
    """The least ``n`` in 1..count for which ``fails(n)``, given that ``fails(count)``.

    Asks about log2(count) times; right if whatever fails makes all that is longer fail.
    """
    right, wrong = 0, count
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if fails(middle):
            wrong = middle
        else:
            right = middle
    return wrong
