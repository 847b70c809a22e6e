"""Mend a choice of owners by what single edges do not show: how many calls it makes.

A minimum cut (:mod:`partitioner.planning.assign`) charges every border as if it were a call of its
own. Here whole segments, and groups of segments that only exist because of one another, are given
to another backend where that makes the estimate smaller; then the levels are made anew.

1. Start from a few choices: the first backend that takes each op, the minimum cut, and for every
   device and every backend all that it takes.
2. Cut each into levels, with and without turns, and keep the cheapest.
3. Try to give each segment, and each op at a border, to every other backend that takes it. Changes
   that each make the estimate smaller are made at once where they are far apart; if that does not
   help together, half of them are tried, then a quarter.
4. Repeat until nothing helps, at most :data:`_ROUNDS` times.

Each round looks at every op and value a bounded number of times, so the whole is linear, but on
small graphs (:data:`_SMALL`), where every move is tried by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from partitioner.planning.assign import cheapest, preferred
from partitioner.planning.levels import assign_levels
from partitioner.planning.problem import Assignment, Problem, estimate

__all__ = ["solve"]

#: Rounds of mending; a graph of some hundred ops is done after two or three.
_ROUNDS = 8

#: Graphs of so many ops are small: every move is tried, which takes time that grows with the square
#: of the ops. At 50 ops it is a tenth of a second; at 200 it was 4 s for an estimate 1 % lower.
_SMALL = 50


def solve(problem: Problem) -> Assignment:
    """Owners and levels of a graph's ops, for little estimated time. Deterministic."""
    best = min((_levelled(problem, owners) for owners in _starts(problem)), key=lambda a: a.seconds)
    if not _has_choice(problem):
        return best
    for _ in range(_ROUNDS):
        better = _mended(problem, best)
        if better is None:
            break
        best = better
    return best


def _has_choice(problem: Problem) -> bool:
    return any(sum(s < math.inf for s in row) > 1 for row in problem.seconds)


def _starts(problem: Problem) -> Iterator[list[int]]:
    """Owners to mend, each once; with more than two backends a cut depends on where it starts."""
    first = preferred(problem)
    if not _has_choice(problem):
        yield first
        return
    rates = problem.rates
    together = [
        _prefer(problem, [b for b, d in enumerate(rates.device) if d == device], first)
        for device in sorted(set(rates.device))
    ]
    alone = [_prefer(problem, [backend], first) for backend in range(len(rates.backends))]
    several = len(rates.backends) > 2
    cuts = [cheapest(problem, start) for start in ([first, *together] if several else [first])]
    seen: list[list[int]] = []
    for owners in (first, *cuts, *together, *alone):
        if owners not in seen:
            seen.append(owners)
            yield owners


def _prefer(problem: Problem, backends: Sequence[int], otherwise: Sequence[int]) -> list[int]:
    """The first of some backends that takes it, for every op; else another one."""
    return [
        next((b for b in backends if row and row[b] < math.inf), owner)
        for row, owner in zip(problem.seconds, otherwise, strict=True)
    ]


def _levelled(problem: Problem, owners: list[int]) -> Assignment:
    """The cheapest of the ways to cut a graph whose owners are known."""
    turns: list[int | None] = [None]
    if len({owner for owner in owners if owner >= 0}) > 1:
        turns += range(len(problem.rates.backends))
    tried = [assign_levels(problem, owners, first) for first in turns]
    costs = [estimate(problem, owners, levels) for levels in tried]
    best = min(range(len(tried)), key=costs.__getitem__)
    return Assignment(owners, tried[best], costs[best])


# --- mending ------------------------------------------------------------------------------------


def _mended(problem: Problem, now: Assignment) -> Assignment | None:
    """A cheaper assignment, or None."""
    moves = sorted(_moves(problem, now), key=lambda move: move[0])
    if len(problem) <= _SMALL:
        return _first_better(problem, now, moves)
    chosen = _apart(problem, moves)
    while chosen:
        owners = list(now.owners)
        for _, ops, backend in chosen:
            for op in ops:
                owners[op] = backend
        found = _levelled(problem, owners)
        if found.seconds < now.seconds:
            return found
        chosen = chosen[: len(chosen) // 2]
    return None


#: Estimated gain (negative is good), ops, and the backend that they go to.
_Move = tuple[float, Sequence[int], int]


def _first_better(problem: Problem, now: Assignment, moves: Iterable[_Move]) -> Assignment | None:
    """Small graphs: try the moves one by one, also those that look bad by themselves."""
    best: Assignment | None = None
    for _, ops, backend in moves:
        owners = list(now.owners)
        for op in ops:
            owners[op] = backend
        found = _levelled(problem, owners)
        if found.seconds < (best or now).seconds:
            best = found
    return best


def _moves(problem: Problem, now: Assignment) -> Iterator[_Move]:
    groups: dict[tuple[int, int], list[int]] = {}
    for op, owner in enumerate(now.owners):
        if owner >= 0:
            groups.setdefault((now.levels[op], owner), []).append(op)
    small = len(problem) <= _SMALL
    for (_, owner), ops in groups.items():
        for backend in range(len(problem.rates.backends)):
            if backend == owner:
                continue
            gain = _gain(problem, now, ops, backend)
            if gain < 0 or (small and gain < math.inf):
                yield gain, ops, backend
    for op, owner in enumerate(now.owners):
        if owner < 0 or not (small or _at_border(problem, now, op)):
            continue
        for backend in range(len(problem.rates.backends)):
            if backend != owner and problem.seconds[op][backend] < math.inf:
                gain = _gain(problem, now, [op], backend)
                if gain < 0 or small:
                    yield gain, [op], backend


def _at_border(problem: Problem, now: Assignment, op: int) -> bool:
    owner = now.owners[op]
    around = [problem.values[v].maker for v in problem.reads[op]]
    around += [r for v in problem.makes[op] for r in problem.values[v].readers]
    return any(now.owners[other] != owner for other in around)


def _gain(problem: Problem, now: Assignment, ops: Sequence[int], backend: int) -> float:
    """What moving ops changes, if segments stay as they are otherwise; too large where unsure."""
    rates, inside = problem.rates, set(ops)
    owner = now.owners[ops[0]]
    change = 0.0
    for op in ops:
        change += problem.seconds[op][backend] - problem.seconds[op][owner]
    if change == math.inf:
        return change
    start, end = rates.device[owner], rates.device[backend]
    touching = False
    for op in ops:
        for index in problem.reads[op]:
            value = problem.values[index]
            if value.maker not in inside:
                other = now.owners[value.maker]
                touching = touching or other == backend
                change += _edge(problem, value.nbytes, other, end, start)
        for index in problem.makes[op]:
            value = problem.values[index]
            for reader in value.readers:
                if reader not in inside:
                    other = now.owners[reader]
                    touching = touching or other == backend
                    change += _edge(problem, value.nbytes, other, end, start)
    # Beside ops of the other backend a segment of its own goes; alone it stays one.
    whole = len(ops) > 1 or _alone(problem, now, ops[0])
    if whole:
        change -= rates.call_s[owner]
    if not touching:
        change += rates.call_s[backend]
    return change


def _edge(problem: Problem, nbytes: int, other: int, now: int, before: int) -> float:
    """What an edge to an op of another segment costs more after its end has moved."""
    rates = problem.rates
    far = rates.device[other] if other >= 0 else rates.host
    return rates.transfer(nbytes, now, far) - rates.transfer(nbytes, before, far)


def _alone(problem: Problem, now: Assignment, op: int) -> bool:
    owner = now.owners[op]
    around = [problem.values[v].maker for v in problem.reads[op]]
    around += [r for v in problem.makes[op] for r in problem.values[v].readers]
    return all(now.owners[other] != owner for other in around)


def _apart(problem: Problem, moves: Sequence[_Move]) -> list[_Move]:
    """The best moves that do not touch one another."""
    taken: set[int] = set()
    chosen: list[_Move] = []
    for move in moves:
        if move[0] >= 0 or any(op in taken for op in move[1]):
            continue
        chosen.append(move)
        for op in move[1]:
            taken.add(op)
            taken.update(problem.values[v].maker for v in problem.reads[op])
            taken.update(r for v in problem.makes[op] for r in problem.values[v].readers)
    return chosen
