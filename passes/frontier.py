"""Which of the nodes that could leave a loop should, under a budget of bytes.

A node that leaves saves its work in every trip; a value that is left outside and read inside costs
memory, and a read in every trip. The cheapest choice is a minimum cut (project selection: Picard,
"Maximal closure of a graph", 1976): nodes on the source's side leave. An edge from the source costs
a node's work if it stays; an edge that a crossing value must cut costs that value, once however
many nodes read it; edges without bound make the operands of what leaves leave too.

A budget is met by raising the price of a byte until the choice fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import fx

__all__ = ["Choice", "Costs", "choose"]

#: Sum of all capacities; scipy's flow counts in int32.
_TOTAL = 2**30
#: Prices of a byte that are tried: from here, times the factor until the choice fits, then as many
#: steps back towards the last that did not.
_LOWEST_PRICE, _FACTOR, _TRIES = 1e-3, 8.0, 6


@dataclass(frozen=True)
class Costs:
    """Costs of a node, in one unit.

    Attributes:
        work: of doing the node in every trip.
        crossing: of having its result outside and reading it in every trip; None where it cannot
            cross (several results).
        held: bytes that the result takes if it crosses.
    """

    work: float
    crossing: float | None
    held: int


@dataclass(frozen=True)
class Choice:
    """What leaves the loop.

    Attributes:
        moved: nodes that leave, in their order.
        crossing: those of them whose results the rest reads, in their order.
        held: bytes of these.
        declined: nodes that would have left without the budget.
    """

    moved: list[fx.Node] = field(default_factory=list[fx.Node])
    crossing: list[fx.Node] = field(default_factory=list[fx.Node])
    held: int = 0
    declined: int = 0


def choose(nodes: Sequence[fx.Node], cost: Callable[[fx.Node], Costs], budget: int) -> Choice:
    """The cheapest choice among ``nodes`` whose crossing values fit ``budget`` bytes.

    Args:
        nodes: candidates in topological order; operands of candidates that are no candidates are
            there outside anyway.
        cost: of each node.
        budget: bytes.
    """
    nodes = _live(nodes)
    costs = [cost(node) for node in nodes]
    best = _cut(nodes, costs, 0.0)
    if best.held <= budget:
        return best
    fitting, price = Choice(), _LOWEST_PRICE
    while True:
        fitting = _cut(nodes, costs, price)
        if fitting.held <= budget:
            break
        price *= _FACTOR
    # Between the last price that was too low and this one lies the best that fits.
    low, high = price / _FACTOR, price
    for _ in range(_TRIES):
        price = math.sqrt(low * high)
        choice = _cut(nodes, costs, price)
        if choice.held <= budget:
            high, fitting = price, choice
        else:
            low = price
    declined = len(best.moved) - len(fitting.moved)
    return Choice(fitting.moved, fitting.crossing, fitting.held, declined)


def _live(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The candidates that something else reads, if only through others."""
    candidates, live = set(nodes), set[fx.Node]()
    for node in reversed(nodes):
        if any(user not in candidates or user in live for user in node.users):
            live.add(node)
    return [node for node in nodes if node in live]


def _cut(nodes: Sequence[fx.Node], costs: Sequence[Costs], price: float) -> Choice:
    """The minimum cut where each byte that is held costs ``price`` more."""
    if not nodes:
        return Choice()
    network = _Network(nodes, costs, price)
    inside = network.source_side()
    moved = [node for index, node in enumerate(nodes) if inside[_moves(index)]]
    chosen = set(moved)
    held, crossing = 0, list[fx.Node]()
    for node, own in zip(nodes, costs, strict=True):
        if node in chosen and any(user not in chosen for user in node.users):
            crossing.append(node)
            held += own.held
    return Choice(moved, crossing, held)


_SOURCE, _SINK = 0, 1


def _moves(index: int) -> int:
    """The vertex that is on the source's side if the node leaves."""
    return 2 + 2 * index


def _crosses(index: int) -> int:
    """The vertex that is on the sink's side if the node's result crosses."""
    return 3 + 2 * index


class _Network:
    """The flow network of the module's docstring."""

    def __init__(self, nodes: Sequence[fx.Node], costs: Sequence[Costs], price: float) -> None:
        self.size = 2 + 2 * len(nodes)
        self.edges: list[tuple[int, int]] = []
        self.capacities: list[float | None] = []
        number = {node: index for index, node in enumerate(nodes)}
        for index, (node, own) in enumerate(zip(nodes, costs, strict=True)):
            crossing = None if own.crossing is None else own.crossing + price * own.held
            self._edge(_SOURCE, _moves(index), own.work)
            self._edge(_moves(index), _crosses(index), crossing)
            for operand in node.all_input_nodes:
                if operand in number:
                    self._edge(_moves(index), _moves(number[operand]), None)
            readers = {_moves(number[u]) if u in number else _SINK for u in node.users}
            for reader in sorted(readers):
                self._edge(_crosses(index), reader, None)

    def _edge(self, start: int, end: int, capacity: float | None) -> None:
        self.edges.append((start, end))
        self.capacities.append(capacity)

    def source_side(self) -> np.ndarray:
        """Of each vertex, whether the smallest minimum cut has it on the source's side."""
        total = sum(c for c in self.capacities if c is not None) or 1.0
        unit = total / _TOTAL
        whole = [
            _TOTAL + len(self.edges) if c is None else (max(1, round(c / unit)) if c > 0 else 0)
            for c in self.capacities
        ]
        rows, columns = np.array(self.edges, dtype=np.int32).T
        capacity = csr_array(
            (np.array(whole, dtype=np.int32), (rows, columns)), shape=(self.size, self.size)
        )
        flow = maximum_flow(capacity, _SOURCE, _SINK).flow
        residual = (capacity - flow) > 0
        reached = breadth_first_order(residual, _SOURCE, return_predecessors=False)
        inside = np.zeros(self.size, dtype=bool)
        inside[reached] = True
        return inside
