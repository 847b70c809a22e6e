"""Which backend each op goes to: the cheapest choice by ops and borders, as a minimum cut.

With two backends, the choice that minimises the sum of the ops' seconds and of the borders between
them is a minimum cut (Stone, "Multiprocessor scheduling with the aid of network flow algorithms",
1977). With more, the backends are taken one after the other, and each takes over those ops by
which the sum falls the most, which is a minimum cut again (alpha expansion: Boykov, Veksler, Zabih,
"Fast approximate energy minimization via graph cuts", 2001).

A value that several ops read gets a place of its own, so that it is brought to another device once.
How many calls a choice makes does not show in single edges; :mod:`partitioner.planning.refine`
looks at that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from partitioner.planning.problem import Problem, Value

__all__ = ["cheapest", "preferred"]

#: Sum of all capacities; scipy's flow counts in int32.
_TOTAL = 2**30

#: How often every backend has its turn, unless nothing changes any more.
_ROUNDS = 3

_Floats = npt.NDArray[np.float64]


def preferred(problem: Problem) -> list[int]:
    """The first backend that takes it, for every op."""
    return [
        next((b for b, s in enumerate(seconds) if s < math.inf), -1 - op)
        for op, seconds in enumerate(problem.seconds)
    ]


def cheapest(problem: Problem, start: Sequence[int]) -> list[int]:
    """The owner of each op, where ops and borders together cost the least.

    Args:
        start: owners to begin with; with more than two backends it matters.
    """
    network = _Network(problem)
    labels = network.start(start)
    cost = network.cost(labels)
    for _ in range(_ROUNDS):
        before = cost
        for backend in range(len(problem.rates.backends)):
            moved = network.expand(labels, backend)
            cost_moved = network.cost(moved)
            # Rounding to whole numbers may mislead by a little.
            if cost_moved < cost:
                labels, cost = moved, cost_moved
        if cost == before:
            break
    return [int(labels[op]) if seconds else -1 - op for op, seconds in enumerate(problem.seconds)]


class _Network:
    """Vertices that get a backend each, with costs of their own, and of edges where two differ.

    Vertices are the ops that backends run, and a place for each value that several of them read.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.rates = problem.rates
        self.count = len(problem)
        self.edges: list[tuple[int, int, int]] = []
        places = 0
        self.makers: list[int] = []
        own = np.zeros((self.count, len(self.rates.backends)))
        self.own = own
        for op, seconds in enumerate(problem.seconds):
            if seconds:
                own[op] = seconds
        extra: list[_Floats] = []
        for value in problem.values:
            places += self._add(value, self.count + places, extra)
        self.own = np.vstack([own, *extra]) if extra else own
        ends = np.array(self.edges, dtype=np.int64).reshape(-1, 3)
        self.a, self.b, self.nbytes = ends[:, 0], ends[:, 1], ends[:, 2]

    def _add(self, value: Value, place: int, extra: list[_Floats]) -> int:
        """Edges of a value; how many places it needs."""
        seconds = self.problem.seconds
        ends = [r for r in dict.fromkeys((*value.readers, *value.later)) if seconds[r]]
        maker = value.maker if value.maker >= 0 and seconds[value.maker] else -1
        if maker >= 0:
            for device in value.wanted:
                self.own[maker] += self._to(value.nbytes, device)
        home = value.home if maker < 0 else -1
        if (maker < 0 and home < 0) or not ends:
            return 0
        if len(ends) == 1:
            if maker >= 0:
                self._edge(maker, ends[0], value.nbytes)
            else:
                self.own[ends[0]] += self._from(value.nbytes, home)
            return 0
        row = np.zeros(len(self.rates.backends))
        if maker >= 0:
            self._edge(maker, place, value.nbytes)
        else:
            row += self._from(value.nbytes, home)
        extra.append(row[None])
        self.makers.append(maker)
        for end in ends:
            self._edge(place, end, value.nbytes)
        return 1

    def _edge(self, a: int, b: int, nbytes: int) -> None:
        if a != b:
            self.edges.append((a, b, nbytes))

    def _to(self, nbytes: int, device: int) -> _Floats:
        rates = self.rates
        return np.array([rates.transfer(nbytes, d, device) for d in rates.device])

    def _from(self, nbytes: int, device: int) -> _Floats:
        rates = self.rates
        return np.array([rates.transfer(nbytes, device, d) for d in rates.device])

    def start(self, owners: Sequence[int]) -> npt.NDArray[np.int64]:
        """Labels of all vertices: of ops by their owners, of places by their makers."""
        labels = np.zeros(len(self.own), dtype=np.int64)
        labels[: self.count] = np.maximum(owners, 0)
        for place, maker in enumerate(self.makers, self.count):
            labels[place] = labels[maker] if maker >= 0 else 0
        return labels

    def _between(self, a: npt.NDArray[np.int64] | int, b: npt.NDArray[np.int64] | int) -> _Floats:
        """What edges cost whose ends are with these backends."""
        rates = self.rates
        device, call = np.array(rates.device), np.array(rates.call_s)
        latency, per_byte = np.array(rates.latency_s), np.array(rates.byte_s)
        read = np.array(rates.read_s)
        da, db = device[a], device[b]
        # A border ends one call and starts another.
        crossing = (call[a] + call[b]) / 2 + latency[da, db]
        crossing = crossing + self.nbytes * (per_byte[da, db] + read[db])
        return np.where(np.equal(a, b), 0.0, crossing)

    def cost(self, labels: npt.NDArray[np.int64]) -> float:
        rows = np.arange(len(labels))
        own = self.own[rows, labels].sum()
        return float(own + self._between(labels[self.a], labels[self.b]).sum())

    def expand(self, labels: npt.NDArray[np.int64], backend: int) -> npt.NDArray[np.int64]:
        """The labels after ``backend`` has taken what it is best to give it at once."""
        la, lb = labels[self.a], labels[self.b]
        keep_keep = self._between(la, lb)
        keep_take = self._between(la, backend)
        take_keep = self._between(backend, lb)
        rows = np.arange(len(labels))
        keep, take = self.own[rows, labels].copy(), self.own[:, backend].copy()
        # Kolmogorov and Zabih, "What energy functions can be minimized via graph cuts?", 2004,
        # with 0 for keeping and 1 for taking, where taking together costs nothing.
        np.add.at(take, self.a, take_keep - keep_keep)
        np.add.at(take, self.b, -take_keep)
        inner = np.maximum(keep_take + take_keep - keep_keep, 0.0)
        taken = _source_side(keep, take, self.a, self.b, inner)
        return np.where(taken | (labels == backend), backend, labels)


def _source_side(
    keep: _Floats,
    take: _Floats,
    a: npt.NDArray[np.int64],
    b: npt.NDArray[np.int64],
    inner: _Floats,
) -> npt.NDArray[np.bool_]:
    """Which vertices take: those on the source's side of the minimum cut.

    ``keep`` and ``take`` are what a vertex pays; ``inner`` what an edge pays whose start keeps
    while its end takes.
    """
    count = len(keep)
    source, sink = count, count + 1
    vertices = np.arange(count)
    # A vertex that cannot take is bound to the sink, one that cannot keep to the source.
    bound = np.where(np.isinf(take), np.inf, 0.0) - np.where(np.isinf(keep), np.inf, 0.0)
    with np.errstate(invalid="ignore"):
        gain = np.where(np.isfinite(keep) & np.isfinite(take), keep - take, -bound)
    rows = np.concatenate([np.full(count, source), vertices, b])
    columns = np.concatenate([vertices, np.full(count, sink), a])
    costs = np.concatenate([np.maximum(gain, 0.0), np.maximum(-gain, 0.0), inner])
    total = costs[np.isfinite(costs)].sum() or 1.0
    whole = np.where(
        np.isinf(costs), _TOTAL, np.ceil(np.where(np.isinf(costs), 0.0, costs) / total * _TOTAL)
    )
    capacity = coo_array(
        (whole.astype(np.int32), (rows, columns)), shape=(count + 2, count + 2)
    ).tocsr()
    capacity.eliminate_zeros()
    flow = maximum_flow(capacity, source, sink).flow
    residual = (capacity - flow) > 0
    reached = breadth_first_order(residual, source, return_predecessors=False)
    inside = np.zeros(count + 2, dtype=bool)
    inside[reached] = True
    return inside[:count]
