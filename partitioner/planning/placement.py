"""Placement: which backend takes which node, and why the others do not."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from partitioner.backends.base import Rejected
from partitioner.errors import PlacementError
from partitioner.program import STRUCTURAL, Program
from partitioner.targets import Target

__all__ = ["Placement", "place"]

#: How many unplaced nodes an error shows.
_SHOWN = 5


@dataclass
class Placement:
    """Backend of each aten node (items go with their op), and the refusals met on the way."""

    backends: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])
    rejections: dict[fx.Node, dict[str, Rejected]] = field(
        default_factory=dict[fx.Node, dict[str, Rejected]]
    )


def place(program: Program, target: Target, compilers: Mapping[str, Any]) -> Placement:
    """Give every aten node to the first backend of the target that takes it.

    Raises:
        PlacementError: nodes that none takes; names ops, source lines and each backend's reason.
    """
    placement = Placement()
    order = [name for name in target.backends if name in compilers and name != "host"]
    unplaced: list[tuple[str, fx.Node]] = []
    for name, graph in program.all_graphs():
        for node in _ops(graph):
            taken = _first(node, target, order, compilers, placement)
            if taken is None:
                unplaced.append((name, node))
            else:
                placement.backends[node] = taken
        _place_items(graph, placement)
    if unplaced:
        raise _error(unplaced, placement, target)
    return placement


def _ops(graph: fx.Graph) -> Iterator[fx.Node]:
    for node in graph.nodes:
        structural = node.target in STRUCTURAL or node.target is operator.getitem
        if node.op == "call_function" and not structural:
            yield node


def _first(
    node: fx.Node,
    target: Target,
    order: list[str],
    compilers: Mapping[str, Any],
    placement: Placement,
) -> str | None:
    for name in order:
        verdict = compilers[name].verdict(node, target)
        if not isinstance(verdict, Rejected):
            return name
        placement.rejections.setdefault(node, {})[name] = verdict
    return None


def _place_items(graph: fx.Graph, placement: Placement) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and node.target is operator.getitem:
            source = node.args[0]
            if isinstance(source, fx.Node) and source in placement.backends:
                placement.backends[node] = placement.backends[source]


def _error(
    unplaced: list[tuple[str, fx.Node]], placement: Placement, target: Target
) -> PlacementError:
    lines = [f"no backend of target {target.name!r} takes {len(unplaced)} of the pipeline's ops:"]
    for _, node in unplaced[:_SHOWN]:
        lines.append(f"  {node.target} at {node.meta.get('source') or 'unknown line'}")
        for backend, verdict in placement.rejections.get(node, {}).items():
            lines.append(f"    {backend}: {verdict.code}: {verdict.message}")
    first = unplaced[0][1].meta.get("source") or None
    return PlacementError(
        "\n".join(lines),
        where=first,
        advice="write the step with other ops, or make it a host op (@partitioner.host_op)",
    )
