"""Where the nodes of a graph are drawn: layers from top to bottom, few crossings, straight lines.

The method is that of K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of
Hierarchical System Structures", 1981, in four steps:

1. A node's layer is the longest way to it; what nothing leads to goes next to its first reader.
2. Edges over several layers get a point in each layer between, up to a number of points in all, the
   shortest first; longer ones are drawn straight.
3. Layers are ordered by the mean place of neighbours, downwards and upwards in turns.
4. Each layer's places are moved as near to the mean of their neighbours' as their order and widths
   allow: least squares under an order, by pooling adjacent violators (R. Barlow, D. Bartholomew,
   J. Bremner, H. Brunk, "Statistical Inference under Order Restrictions", 1972).

Near-linear, and the same for equal graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["NODE_HEIGHT", "NODE_WIDTH", "Drawing", "lay_out"]

#: Of a node, in pixels at zoom 1; what is between two nodes of a layer, and between layers.
NODE_WIDTH, NODE_HEIGHT = 152, 34
_GAP_X, _GAP_Y = 20, 34

#: Width of a place where only an edge goes through, and how much more than a node it wants to be
#: straight.
_THREAD, _STRAIGHT = 14, 4.0

#: Points of edges for each node, at most.
_POINTS = 6

_ORDERINGS, _SHIFTS = 8, 10


@dataclass(frozen=True)
class Drawing:
    """Pixels; the top left corner is (0, 0).

    Attributes:
        places: centre of each node.
        bends: of each edge, the points between its ends.
    """

    width: int
    height: int
    places: tuple[tuple[int, int], ...]
    bends: tuple[tuple[tuple[int, int], ...], ...]


def lay_out(count: int, edges: Sequence[tuple[int, int]]) -> Drawing:
    """Places for a graph's nodes.

    Args:
        count: of nodes; they stand in an order in which they can run.
        edges: from a node to a later one.
    """
    if not count:
        return Drawing(0, 0, (), ())
    layers = _layers(count, edges)
    grid = _Grid(count, edges, layers)
    for turn in range(_ORDERINGS):
        grid.order(downwards=turn % 2 == 0)
    for turn in range(_SHIFTS):
        grid.shift(downwards=turn % 2 == 0)
    return grid.drawing(count, edges)


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    layers = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for start, end in edges:
        after[start].append(end)
    fed = {end for _, end in edges}
    for node in range(count):
        for end in after[node]:
            layers[end] = max(layers[end], layers[node] + 1)
    for node in range(count):
        if node not in fed and after[node]:
            layers[node] = min(layers[end] for end in after[node]) - 1
    return layers


class _Grid:
    """Nodes and points of edges, by layer and in order.

    Attributes:
        rows: layer -> members, from left to right.
        up, down: member -> its neighbours in the layer above, and below.
        chains: edge -> the members that are its points.
    """

    def __init__(self, count: int, edges: Sequence[tuple[int, int]], layers: list[int]) -> None:
        self.layers = list(layers)
        self.widths = [float(NODE_WIDTH + _GAP_X)] * count
        self.up: list[list[int]] = [[] for _ in range(count)]
        self.down: list[list[int]] = [[] for _ in range(count)]
        self.chains: list[list[int]] = [[] for _ in edges]
        room = _POINTS * count
        by_span = sorted(range(len(edges)), key=lambda e: layers[edges[e][1]] - layers[edges[e][0]])
        for edge in by_span:
            start, end = edges[edge]
            span = layers[end] - layers[start] - 1
            if span <= room:
                room -= span
                self.chains[edge] = self._chain(start, end)
        self.rows: list[list[int]] = [[] for _ in range(max(self.layers) + 1)]
        for member, layer in enumerate(self.layers):
            self.rows[layer].append(member)
        self.x = [0.0] * len(self.layers)
        for row in self.rows:
            self._spread(row)

    def _chain(self, start: int, end: int) -> list[int]:
        chain, before = list[int](), start
        for layer in range(self.layers[start] + 1, self.layers[end]):
            member = len(self.layers)
            self.layers.append(layer)
            self.widths.append(_THREAD)
            self.up.append([before])
            self.down.append([])
            self.down[before].append(member)
            chain.append(member)
            before = member
        self.down[before].append(end)
        self.up[end].append(before)
        return chain

    def _spread(self, row: Sequence[int]) -> None:
        """Side by side, around 0."""
        place = -sum(self.widths[m] for m in row) / 2
        for member in row:
            self.x[member] = place + self.widths[member] / 2
            place += self.widths[member]

    def order(self, *, downwards: bool) -> None:
        neighbours = self.up if downwards else self.down
        for row in self.rows if downwards else reversed(self.rows):
            row.sort(key=lambda m: self._mean(neighbours[m], self.x[m]))
            self._spread(row)

    def shift(self, *, downwards: bool) -> None:
        neighbours = self.up if downwards else self.down
        for row in self.rows if downwards else reversed(self.rows):
            wanted = [self._mean(neighbours[m], self.x[m]) for m in row]
            straight = [_STRAIGHT if self.widths[m] == _THREAD else 1.0 for m in row]
            offsets = list(_offsets([self.widths[m] for m in row]))
            free = [w - o for w, o in zip(wanted, offsets, strict=True)]
            for member, place, offset in zip(row, _pooled(free, straight), offsets, strict=True):
                self.x[member] = place + offset

    def _mean(self, members: Sequence[int], otherwise: float) -> float:
        return sum(self.x[m] for m in members) / len(members) if members else otherwise

    def drawing(self, count: int, edges: Sequence[tuple[int, int]]) -> Drawing:
        left = min(self.x[m] - self.widths[m] / 2 for m in range(len(self.x)))
        right = max(self.x[m] + self.widths[m] / 2 for m in range(len(self.x)))
        step = NODE_HEIGHT + _GAP_Y

        def place(member: int) -> tuple[int, int]:
            return (
                round(self.x[member] - left),
                self.layers[member] * step + step // 2,
            )

        return Drawing(
            round(right - left),
            len(self.rows) * step,
            tuple(place(node) for node in range(count)),
            tuple(tuple(place(m) for m in self.chains[e]) for e in range(len(edges))),
        )


def _offsets(widths: Sequence[float]) -> Iterable[float]:
    """How far each member's centre is at least from the first one's."""
    place, before = 0.0, widths[0] if widths else 0.0
    for index, width in enumerate(widths):
        place += (before + width) / 2 if index else 0.0
        before = width
        yield place


def _pooled(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest numbers that do not fall, by weighted least squares."""
    # Mean, weight and length of each pool.
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(wanted, weights, strict=True):
        mean, total, length = value, weight, 1
        while pools and pools[-1][0] > mean:
            other, own, more = pools.pop()
            mean = (mean * total + other * own) / (total + own)
            total, length = total + own, length + more
        pools.append((mean, total, length))
    return [mean for mean, _, length in pools for _ in range(length)]
