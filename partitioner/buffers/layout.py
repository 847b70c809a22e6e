"""Offsets in one arena for arrays that are needed for some time each.

The problem is dynamic storage allocation, NP-hard (Garey and Johnson 1979, SR2). Two heuristics, of
which the smaller result is taken:

- greedy by size, as in Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep Neural Net
  Inference", 2020 (arXiv 2001.03288), algorithm 3: from the largest array to the smallest, each
  goes into the smallest gap that fits between those placed already that are needed at the same
  time. Quadratic, in vector operations, so taken up to :data:`MAX_GREEDY` arrays.
- best fit in the order of time, as an allocator does (D. Knuth, "The Art of Computer
  Programming", 2.5): n log n.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

__all__ = ["ALIGNMENT", "MAX_GREEDY", "Interval", "aligned", "assign_offsets", "most_alive"]

#: Bytes: a cache line, and the widest vector register of any target.
ALIGNMENT = 64

#: Arrays up to which greedy by size is tried: one to two seconds at most.
MAX_GREEDY = 10_000

#: Bytes (a multiple of the alignment), and the first and last moment at which they are needed.
Interval = tuple[int, int, int]


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def assign_offsets(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    """Offsets, in the order of ``intervals``, and the bytes of the arena."""
    by_time = _best_fit(intervals)
    if len(intervals) > MAX_GREEDY or by_time[1] == max(most_alive(intervals), default=0):
        return by_time
    return min(_greedy_by_size(intervals), by_time, key=lambda found: found[1])


def most_alive(intervals: Sequence[Interval]) -> list[int]:
    """Bytes that are needed at each moment, from 0 on: no arena is smaller than the largest."""
    changes = [0] * (max((last for _, _, last in intervals), default=-1) + 2)
    for size, first, last in intervals:
        changes[first] += size
        changes[last + 1] -= size
    return list(accumulate(changes))[:-1]


# --- greedy by size -----------------------------------------------------------------------------


def _greedy_by_size(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    order = sorted(range(len(intervals)), key=lambda i: (-intervals[i][0], intervals[i][1:], i))
    offsets = [0] * len(intervals)
    # What is placed: first, last, offset, end, as columns, by offset.
    placed = np.empty((4, len(intervals)), np.int64)
    for count, index in enumerate(order):
        size, first, last = intervals[index]
        done = placed[:, :count]
        near = done[2:, (done[0] <= last) & (done[1] >= first)]
        offset = _smallest_gap(near[0], near[1], size)
        offsets[index] = offset
        at = int(np.searchsorted(done[2], offset, "right"))
        placed[:, at + 1 : count + 1] = placed[:, at:count].copy()
        placed[:, at] = first, last, offset, offset + size
    arena = int(placed[3].max(initial=0))
    return offsets, arena


def _smallest_gap(starts: Any, ends: Any, size: int) -> int:
    """Where the smallest gap begins that ``size`` fits in; above all if none does.

    Args:
        starts, ends: of what is placed, in the order of their starts.
    """
    if not starts.size:
        return 0
    tops = np.maximum.accumulate(ends)
    gaps = starts - np.concatenate(([0], tops[:-1]))
    fits = np.flatnonzero(gaps >= size)
    if not fits.size:
        return int(tops[-1])
    best = int(fits[np.argmin(gaps[fits])])
    return 0 if best == 0 else int(tops[best - 1])


# --- best fit in the order of time --------------------------------------------------------------


def _best_fit(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    order = sorted(range(len(intervals)), key=lambda i: (intervals[i][1], -intervals[i][0], i))
    offsets = [0] * len(intervals)
    used: list[tuple[int, int]] = []
    heap = _Heap()
    for index in order:
        size, first, last = intervals[index]
        while used and used[0][0] < first:
            _, ended = heapq.heappop(used)
            heap.free(offsets[ended], intervals[ended][0])
        offsets[index] = heap.take(size)
        heapq.heappush(used, (last, index))
    return offsets, heap.top


class _Heap:
    """Free blocks of a memory that grows: by size, and by where they begin and end."""

    def __init__(self) -> None:
        self.top = 0
        self._by_size: list[tuple[int, int]] = []
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def take(self, size: int) -> int:
        """The start of ``size`` bytes: of the smallest block that fits, or of new memory."""
        if size == 0:
            return 0
        at = bisect.bisect_left(self._by_size, (size, 0))
        if at < len(self._by_size):
            have, start = self._by_size[at]
            self._remove(start, have)
            self._add(start + size, have - size)
            return start
        # What is free at the end is a part of it.
        start = self._ends.get(self.top, self.top)
        if start < self.top:
            self._remove(start, self.top - start)
        self.top = start + size
        return start

    def free(self, start: int, size: int) -> None:
        """Give a block back, joined with the free ones on both sides."""
        if size == 0:
            return
        before = self._ends.get(start)
        if before is not None:
            self._remove(before, start - before)
            start, size = before, size + start - before
        after = self._starts.get(start + size)
        if after is not None:
            self._remove(start + size, after)
            size += after
        self._add(start, size)

    def _add(self, start: int, size: int) -> None:
        if size:
            bisect.insort(self._by_size, (size, start))
            self._starts[start] = size
            self._ends[start + size] = start

    def _remove(self, start: int, size: int) -> None:
        del self._by_size[bisect.bisect_left(self._by_size, (size, start))]
        del self._starts[start]
        del self._ends[start + size]
