"""The cheapest way to cut a small graph, by trying every one, and random graphs to cut.

States are sets of ops that have run, with the owner of each; a step runs one more segment. So all
ways to put ops into segments that can be ordered are covered, each once.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Iterator

from partitioner.planning.problem import Problem, Rates, Value

__all__ = ["optimum", "random_problem"]


def optimum(problem: Problem) -> float:
    """Estimated seconds of the best assignment there is."""
    count, rates = len(problem), problem.rates
    values, reads = problem.values, problem.reads
    needs = [{values[v].maker for v in row} for row in reads]

    def segments(done: frozenset[int]) -> Iterator[frozenset[int]]:
        """Sets of ops that may run next, together: their makers have run or are among them."""
        left = [op for op in range(count) if op not in done]
        for size in range(1, len(left) + 1):
            for ops in itertools.combinations(left, size):
                chosen = frozenset(ops)
                if all(needs[op] <= done | chosen for op in ops):
                    yield chosen

    def device(owner: int, value: Value) -> int:
        return rates.device[owner] if owner >= 0 else value.home

    def cost(owners: dict[int, int], ops: frozenset[int], owner: int) -> float:
        """What a segment adds once those before it have run."""
        total = rates.call_s[owner] if owner >= 0 else 0.0
        if owner >= 0:
            total += sum(problem.seconds[op][owner] for op in ops)
        for value in values:
            total += reading(value, owners, ops, owner)
            total += making(value, ops, owner)
        return total

    def reading(value: Value, owners: dict[int, int], ops: frozenset[int], owner: int) -> float:
        if owner < 0 or value.maker in ops or not ops & set(value.readers):
            return 0.0
        here = rates.device[owner]
        seconds = value.nbytes * rates.read_s[here]
        home = device(owners[value.maker], value) if value.maker >= 0 else value.home
        there = {rates.device[o] for r in value.readers if (o := owners.get(r, -1)) >= 0}
        if home >= 0 and here != home and here not in there and here not in value.wanted:
            seconds += value.share * rates.transfer(value.nbytes, home, here)
        return seconds

    def making(value: Value, ops: frozenset[int], owner: int) -> float:
        """Where a value is wanted in any case it is brought as soon as it is there."""
        if value.maker not in ops:
            return 0.0
        home = device(owner, value)
        if home < 0:
            return 0.0
        return sum(
            value.share * rates.transfer(value.nbytes, home, end)
            for end in set(value.wanted)
            if end != home
        )

    @functools.cache
    def best(state: tuple[int | None, ...]) -> float:
        owners = {op: owner for op, owner in enumerate(state) if owner is not None}
        done = frozenset(owners)
        if len(done) == count:
            return 0.0
        found = math.inf
        for ops in segments(done):
            for owner in takers(ops):
                after = list(state)
                for op in ops:
                    after[op] = owner
                found = min(found, cost(owners, ops, owner) + best(tuple(after)))
        return found

    def takers(ops: frozenset[int]) -> list[int]:
        if any(not problem.seconds[op] for op in ops):
            return [-1 - next(iter(ops))] if len(ops) == 1 else []
        backends = range(len(rates.backends))
        return [b for b in backends if all(problem.seconds[op][b] < math.inf for op in ops)]

    given = sum(
        value.share * rates.transfer(value.nbytes, value.home, end)
        for value in values
        if value.maker < 0 and value.home >= 0
        for end in set(value.wanted)
        if end != value.home
    )
    return given + best((None,) * count)


def random_problem(seed: int, backends: int = 2) -> Problem:
    """A graph of three to seven ops; one device or two, ops that one backend refuses."""
    draw = random.Random(seed)
    count = draw.randint(3, 9 - backends)
    rates = _rates(draw, backends)
    seconds = [_seconds(draw, len(rates.backends)) for _ in range(count)]
    reads: list[list[int]] = []
    readers: list[list[int]] = [[] for _ in range(count)]
    for op in range(count):
        sources = draw.sample(range(op), min(op, draw.choice((1, 1, 1, 2, 2, 0))))
        reads.append(sorted(sources))
        for source in sources:
            readers[source].append(op)
    ends = {op for op in range(count) if not readers[op]}
    values = [
        Value(
            op,
            draw.choice((100, 1_000, 10_000)),
            tuple(readers[op]),
            home=-1 if seconds[op] else rates.host,
            wanted=(rates.host,) if op in ends or not _runs(seconds, readers[op]) else (),
        )
        for op in range(count)
    ]
    starts = tuple(op for op in range(count) if not reads[op])
    values.append(Value(-1, draw.choice((100, 1_000, 10_000)), starts, home=rates.host))
    return Problem(
        rates, seconds, values, reads, [[op] for op in range(count)], results=frozenset(ends)
    )


def _runs(seconds: list[tuple[float, ...]], ops: list[int]) -> bool:
    """Whether backends run all of these ops."""
    return all(seconds[op] for op in ops)


def _rates(draw: random.Random, backends: int) -> Rates:
    names = ("first", "second", "third")[:backends]
    calls = tuple(draw.choice((1.0, 5.0)) for _ in names)
    per_byte = draw.choice((0.0001, 0.001))
    if draw.random() < 0.4:
        same = ((0.0,),)
        return Rates(names, (0,) * backends, calls, (per_byte,), same, same)
    latency, far = draw.choice((0.5, 3.0)), draw.choice((0.001, 0.01))
    return Rates(
        names,
        (1, *(0,) * (backends - 1)),
        calls,
        (per_byte, per_byte / 10),
        ((0.0, latency), (latency, 0.0)),
        ((0.0, far), (far, 0.0)),
    )


def _seconds(draw: random.Random, backends: int) -> tuple[float, ...]:
    kind = draw.random()
    if kind < 0.1:
        return ()
    row = [draw.choice((0.1, 1.0, 1.0, 10.0)) * draw.uniform(0.5, 2.0) for _ in range(backends)]
    if kind < 0.4:
        row[draw.randrange(backends)] = math.inf
    return tuple(row)
