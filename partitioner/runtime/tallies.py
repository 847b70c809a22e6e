"""How often each segment was called, and how long that took: counted always, so it must be cheap.

A run counts for itself, without a lock, and adds what it has counted when it is over.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

__all__ = ["Tallies", "Tally"]


class Tally:
    """Calls, and the seconds they took together."""

    __slots__ = ("calls", "seconds")

    def __init__(self, calls: int = 0, seconds: float = 0.0) -> None:
        self.calls = calls
        self.seconds = seconds


class Tallies:
    """The tallies of all runs that are over, by segment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Tally] = {}

    def add(self, spent: Mapping[str, Tally]) -> None:
        """Count what a run has counted; one that failed counts, too."""
        with self._lock:
            for segment, tally in spent.items():
                whole = self._all.setdefault(segment, Tally())
                whole.calls += tally.calls
                whole.seconds += tally.seconds

    def of(self, segment: str) -> Tally:
        """A copy of a segment's tally."""
        with self._lock:
            tally = self._all.get(segment, Tally())
            return Tally(tally.calls, tally.seconds)
