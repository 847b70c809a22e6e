"""Which segment runs on which core, and which copy of it takes a call.

- ``latency``: each segment is loaded once, onto the cores in turn. What comes one after the other
  in a pipeline then stands on different cores, so that the encoder of one request runs while the
  loop of another does.
- ``throughput``: each segment is loaded onto every core, and a call goes to a copy that is free.

A copy takes one call at a time. Calls that find none free wait for their turn in order of arrival.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from partitioner.backends.execution import Mode
from partitioner.errors import BackendError

__all__ = ["Copies", "Placer"]

T = TypeVar("T")


class Placer:
    """Hands out cores to the segments of one pipeline.

    Args:
        cores: that the process may use.
        mode: see the module.
    """

    def __init__(self, cores: Sequence[int], mode: Mode) -> None:
        self._cores = tuple(cores)
        self._mode = mode
        self._turn = 0

    def cores_of(self, turn: int | None = None) -> tuple[int, ...]:
        """The cores that a segment is loaded onto.

        Args:
            turn: which of the pipeline's segments it is; by default the one after the last that
                was asked for without.
        """
        if self._mode == "throughput":
            return self._cores
        if turn is None:
            turn, self._turn = self._turn, self._turn + 1
        return (self._cores[turn % len(self._cores)],)


class Copies(Generic[T]):
    """Copies of one thing, each lent to one caller at a time. Thread-safe."""

    def __init__(self, copies: Sequence[T], what: str) -> None:
        self._all = tuple(copies)
        self._free = deque(self._all)
        self._what = what
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def lent(self) -> Generator[T]:
        """A copy, for as long as the context lasts; waits for one.

        Raises:
            BackendError: there are none any more.
        """
        copy = self._take()
        try:
            yield copy
        finally:
            with self._changed:
                self._free.append(copy)
                self._changed.notify_all()

    def close(self) -> tuple[T, ...]:
        """Lend no more; gives all copies."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return self._all

    def _take(self) -> T:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not self._closed and not (self._free and self._waiting[0] is ticket):
                    self._changed.wait()
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            if self._closed:
                raise BackendError("the segment has been closed", where=self._what)
            return self._free.popleft()
