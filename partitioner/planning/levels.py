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
   changes of owner, and no fewer would do. Backends may also take turns: then a level belongs to
   one backend, and work of two that does not depend on each other is called less often.
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
from collections.abc import Sequence

from partitioner.planning.problem import Problem

__all__ = ["assign_levels"]

#: Later than every level: when a graph's results are read.
_END = 2**62


def assign_levels(problem: Problem, owners: Sequence[int], first: int | None = None) -> list[int]:
    """The level of each op of a graph.

    Args:
        owners: of each op; see :class:`~partitioner.planning.problem.Assignment`.
        first: the backend whose turn level 0 is, if backends take turns; None if they do not.
    """
    settling = _Settling(problem, owners, _rise(problem, owners, first))
    settling.sink()
    settling.merge()
    return settling.levels


def _rise(problem: Problem, owners: Sequence[int], first: int | None) -> list[int]:
    turns = len(problem.rates.backends)
    levels = [0] * len(problem)
    for op, values in enumerate(problem.reads):
        level, owner = 0, owners[op]
        for value in values:
            source = problem.values[value].maker
            level = max(level, levels[source] + (owners[source] != owner))
        if first is not None and owner >= 0:
            level += (owner - first - level) % turns
        levels[op] = level
    return levels


class _Settling:
    """Levels that are being made final, from the last op to the first.

    Attributes:
        last: value -> the highest level that reads it, as far as levels have been settled.
    """

    def __init__(self, problem: Problem, owners: Sequence[int], levels: list[int]) -> None:
        self.problem = problem
        self.owners = owners
        self.levels = levels
        self.last = [_END if v in problem.results else 0 for v in range(len(problem.values))]

    def sink(self) -> None:
        levels = self.levels
        for op in range(len(levels) - 1, -1, -1):
            latest = self._latest([op], {op})
            if latest > levels[op] and self._meets(op, latest) and self._narrows([op], latest):
                levels[op] = latest
            self._settle(op)

    def merge(self) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for op, owner in enumerate(self.owners):
            if owner >= 0:
                groups.setdefault((self.levels[op], owner), []).append(op)
        kept: dict[int, list[int]] = {}
        for level, backend in sorted(groups, reverse=True):
            ops = groups[level, backend]
            later = kept.setdefault(backend, [])
            index = bisect_right(later, self._latest(ops, set(ops))) - 1
            if index < 0 or not self._narrows(ops, later[index]):
                insort(later, level)
                continue
            for op in ops:
                self.levels[op] = later[index]
                self._settle(op)

    def _settle(self, op: int) -> None:
        level = self.levels[op]
        for value in self.problem.reads[op]:
            self.last[value] = max(self.last[value], level)

    def _latest(self, ops: Sequence[int], inside: set[int]) -> int:
        """The latest level for ops of one owner, together, by those who read their values."""
        values, makes, owner = self.problem.values, self.problem.makes, self.owners[ops[0]]
        latest = _END
        for op in ops:
            for value in makes[op]:
                for reader in values[value].readers:
                    if reader not in inside:
                        at = self.levels[reader] - (self.owners[reader] != owner)
                        latest = min(latest, at)
        return latest

    def _meets(self, op: int, level: int) -> bool:
        """Whether an op of the same backend reads a value of ``op`` at this level."""
        values, owner = self.problem.values, self.owners[op]
        return any(
            self.levels[reader] == level and self.owners[reader] == owner
            for value in self.problem.makes[op]
            for reader in values[value].readers
        )

    def _narrows(self, ops: Sequence[int], level: int) -> bool:
        """Whether ops, moved up to ``level``, have no more to wait for than now waits for it."""
        problem, inside = self.problem, set(ops)
        values = problem.values
        held = {
            value
            for op in ops
            for value in problem.reads[op]
            if values[value].maker not in inside
            and value not in problem.free
            and self.last[value] < level
        }
        given = (
            value
            for op in ops
            for value in problem.makes[op]
            if self.last[value] == _END or any(r not in inside for r in values[value].readers)
        )
        return sum(values[v].held_bytes for v in held) <= sum(values[v].held_bytes for v in given)
