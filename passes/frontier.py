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
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import fx

__all__ = ["Choice", "Costs", "choose"]

#: Sum of all capacities; scipy's flow counts in int32.
_TOTAL = 2**30
#: Prices of a byte that are tried: from here, times the factor until the choice fits, at most so
#: many times (beyond that bytes count for all and work for nothing); then as many steps back
#: towards the last that did not fit.
_LOWEST_PRICE, _FACTOR, _RAISES, _TRIES = 1e-3, 8.0, 24, 6


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
    costs = {node: cost(node) for node in _live(nodes)}
    best = _cut(costs, 0.0)
    if best.held <= budget:
        return best
    # A value that does not fit by itself crosses at no price.
    costs = {
        n: replace(own, crossing=None) if own.held > budget else own for n, own in costs.items()
    }
    fitting, price = best, _LOWEST_PRICE
    for _ in range(_RAISES):
        fitting = _cut(costs, price)
        if fitting.held <= budget:
            break
        price *= _FACTOR
    else:
        return Choice(declined=len(best.moved))
    # Between the last price that was too low and this one lies the best that fits.
    low, high = price / _FACTOR, price
    for _ in range(_TRIES):
        price = math.sqrt(low * high)
        choice = _cut(costs, price)
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


def _movable(costs: dict[fx.Node, Costs]) -> list[fx.Node]:
    """The candidates that are not bound to stay: by a reader that stays, or by an operand.

    The cut would find the same, but a long chain of nodes that stay takes it a time that is
    quadratic in their number.
    """
    free, before = set(costs), -1
    while len(free) != before:
        before = len(free)
        for node in reversed(costs):
            if costs[node].crossing is None and not free.issuperset(node.users):
                free.discard(node)
        for node in costs:
            if any(operand in costs and operand not in free for operand in node.all_input_nodes):
                free.discard(node)
    return [node for node in costs if node in free]


def _cut(costs: dict[fx.Node, Costs], price: float) -> Choice:
    """The minimum cut where each byte that is held costs ``price`` more."""
    nodes = _movable(costs)
    if not nodes:
        return Choice()
    network = _Network(nodes, costs, price)
    inside = network.source_side()
    moved = [node for index, node in enumerate(nodes) if inside[_moves(index)]]
    chosen = set(moved)
    crossing = [node for node in moved if not chosen.issuperset(node.users)]
    return Choice(moved, crossing, sum(costs[node].held for node in crossing))


_SOURCE, _SINK = 0, 1


def _moves(index: int) -> int:
    """The vertex that is on the source's side if the node leaves."""
    return 2 + 2 * index


def _crosses(index: int) -> int:
    """The vertex that is on the sink's side if the node's result crosses."""
    return 3 + 2 * index


class _Network:
    """The flow network of the module's docstring."""

    def __init__(self, nodes: Sequence[fx.Node], costs: dict[fx.Node, Costs], price: float) -> None:
        self.size = 2 + 2 * len(nodes)
        self.edges: list[tuple[int, int]] = []
        self.capacities: list[float | None] = []
        number = {node: index for index, node in enumerate(nodes)}
        for index, node in enumerate(nodes):
            own = costs[node]
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
