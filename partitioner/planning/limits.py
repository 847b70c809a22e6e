"""Segments that are too large for their backend are split where they are narrowest.

The ops of a part stand in an order in which they can run. Every place between two of them is a cut
into two convex parts. Of the places at which what comes before fits, and what comes after needs no
more parts than before, the one is taken over which the fewest bytes go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from torch import fx

from partitioner.planning.cost import instructions, node_bytes
from partitioner.program import is_getitem

if TYPE_CHECKING:
    from partitioner.targets import Limits

__all__ = ["Excess", "excess_of", "peak_bytes", "split"]

#: Bytes that a node takes in a compiled file, names included, without weights: an ONNX graph of the
#: base example has 300 a node.
_NODE_BYTES = 512


@dataclass(frozen=True)
class Excess:
    """A limit that nodes are over, as one segment.

    Attributes:
        limit: the name of the field of :class:`~partitioner.targets.Limits`.
        needed, allowed: in its unit.
    """

    limit: str
    needed: int
    allowed: int

    def __str__(self) -> str:
        return f"{self.limit}: {self.needed:.3g} needed, {self.allowed:.3g} allowed"


def excess_of(nodes: Sequence[fx.Node], limits: Limits | None) -> Excess | None:
    """The limit that nodes are over the most, or None.

    Args:
        nodes: ops and their items, in an order in which they can run.
    """
    if limits is None:
        return None
    needed = {
        "instructions": lambda: sum(map(instructions, nodes)),
        "memory_bytes": lambda: _weight_bytes(nodes) + peak_bytes(nodes),
        "graph_bytes": lambda: _NODE_BYTES * len(nodes),
    }
    found = [
        Excess(name, need(), allowed)
        for name, need in needed.items()
        if (allowed := getattr(limits, name)) is not None
    ]
    over = [excess for excess in found if excess.needed > excess.allowed]
    return max(over, key=lambda e: e.needed / e.allowed, default=None)


def split(nodes: Sequence[fx.Node], limits: Limits | None) -> list[tuple[fx.Node, ...]]:
    """Nodes of one part, as the fewest parts within the limits that this finds, in order.

    An op that is over a limit alone is a part alone; nothing here can make it smaller.
    """
    parts: list[tuple[fx.Node, ...]] = []
    rest = list(nodes)
    while (excess := excess_of(rest, limits)) is not None:
        units = _units(rest)
        if len(units) == 1:
            break
        assert limits is not None
        place = _narrowest(units, _loads(units, limits), math.ceil(excess.needed / excess.allowed))
        parts.append(tuple(node for unit in units[:place] for node in unit))
        rest = [node for unit in units[place:] for node in unit]
    # What has been cut off may be over another limit still.
    done = [small for part in parts for small in _again(part, limits, len(nodes))]
    return [*done, tuple(rest)]


def _again(
    part: tuple[fx.Node, ...], limits: Limits | None, before: int
) -> list[tuple[fx.Node, ...]]:
    return split(part, limits) if len(part) < before else [part]


def _units(nodes: Sequence[fx.Node]) -> list[list[fx.Node]]:
    """Ops, each with its items."""
    units: dict[fx.Node, list[fx.Node]] = {}
    for node in nodes:
        op = node.args[0] if is_getitem(node) else node
        assert isinstance(op, fx.Node)
        units.setdefault(op, []).append(node)
    return list(units.values())


def _loads(units: Sequence[Sequence[fx.Node]], limits: Limits) -> list[float]:
    """The share of its tightest limit that each unit takes."""
    room: float = math.inf
    if limits.memory_bytes is not None:
        peak = peak_bytes([node for unit in units for node in unit])
        room = max(limits.memory_bytes - peak, limits.memory_bytes / 8)
    seen: set[object] = set()
    loads: list[float] = []
    for unit in units:
        weights = 0
        for node in unit:
            for operand in node.all_input_nodes:
                if operand.op == "get_attr" and operand.target not in seen:
                    seen.add(operand.target)
                    weights += node_bytes(operand)
        loads.append(
            max(
                sum(map(instructions, unit)) / (limits.instructions or math.inf),
                weights / room,
                _NODE_BYTES * len(unit) / (limits.graph_bytes or math.inf),
            )
        )
    return loads


def _narrowest(units: Sequence[Sequence[fx.Node]], loads: Sequence[float], parts: int) -> int:
    """Before which unit to cut, where at least ``parts`` parts are needed in all."""
    total = sum(loads)
    parts = max(parts, 2)
    borders = _borders(units)
    before, best, width = 0.0, 1, math.inf
    for place in range(1, len(units)):
        before += loads[place - 1]
        fits = before <= 1 and total - before <= max(parts - 1, 1)
        near = abs(before - total / parts) <= total / (4 * parts)
        if (fits or near) and borders[place] < width:
            best, width = place, borders[place]
    if width < math.inf:
        return best
    # One op is larger than its share: cut around it.
    sums = list(accumulate(loads[:-1]))
    return 1 + min(range(len(sums)), key=lambda i: abs(sums[i] - total / parts))


def _borders(units: Sequence[Sequence[fx.Node]]) -> list[int]:
    """Bytes that go over the place before each unit."""
    index = {node: i for i, unit in enumerate(units) for node in unit}
    change = [0] * (len(units) + 1)
    for node, made in index.items():
        last = max((index.get(user, made) for user in node.users), default=made)
        if last > made and not any(is_getitem(user) for user in node.users):
            change[made + 1] += node_bytes(node)
            change[last + 1 if last + 1 < len(change) else -1] -= node_bytes(node)
    widths, width = [], 0
    for step in change:
        width += step
        widths.append(width)
    return widths


def _weight_bytes(nodes: Sequence[fx.Node]) -> int:
    weights = {
        operand.target: node_bytes(operand)
        for node in nodes
        for operand in node.all_input_nodes
        if operand.op == "get_attr"
    }
    return sum(weights.values())


def peak_bytes(nodes: Sequence[fx.Node]) -> int:
    """The most bytes of values that live at once; what others read lives to the end.

    Args:
        nodes: of one part, in an order in which they can run; what they read from outside counts.
    """
    inside = {node: i for i, node in enumerate(nodes)}
    ends: Mapping[fx.Node, int] = {
        node: max((inside.get(user, len(nodes)) for user in node.users), default=len(nodes))
        for node in nodes
    }
    given = {n: 0 for node in nodes for n in node.all_input_nodes if n not in inside}
    live = sum(node_bytes(node) for node in given if node.op != "get_attr")
    peak, dying = live, dict[int, int]()
    for index, node in enumerate(nodes):
        if not is_getitem(node):
            live += node_bytes(node)
            end = max([ends[node], *(ends[u] for u in node.users if is_getitem(u) and u in ends)])
            dying[end] = dying.get(end, 0) + node_bytes(node)
        peak = max(peak, live)
        live -= dying.pop(index, 0)
    return peak
