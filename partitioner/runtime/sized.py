"""A bucket for a range of batch sizes: loaded once, served at each size as a pipeline of its own.

What backends have made of the segments is shared; a size has its plan, its places in memory and
views of the constants for itself, and these are made when it is first asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from partitioner.runtime.stats import Held, Stats
from partitioner.runtime.tallies import Tallies

if TYPE_CHECKING:
    from partitioner.runtime.pipeline import Pipeline

__all__ = ["KEPT_SIZES", "SizedBucket"]

#: So many sizes of a range are kept beside the most rows: each has a plan and copies of constants.
KEPT_SIZES = 8


class SizedBucket:
    """A bucket, loaded when it is first asked for. Thread-safe.

    Of a range, the pipelines of the sizes that were asked for last are kept; a further one takes
    the place of that which was asked for longest ago, whose calls stay counted.

    Args:
        load: loads it, as a pipeline for the most rows.
        sizes: that it serves, in rising order.
    """

    def __init__(self, load: Callable[[], Pipeline], sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._load = load
        self._lock = threading.Lock()
        self._whole: Pipeline | None = None
        #: What was asked for last stands last.
        self._kept: dict[int, Pipeline] = {}
        self._tallies: dict[int, Tallies] = {}

    def whole(self) -> Pipeline:
        """The pipeline for the most rows.

        Raises:
            as :func:`partitioner.load`.
        """
        with self._lock:
            return self._loaded()

    def at(self, rows: int) -> Pipeline:
        """The pipeline for so many rows of those that it serves.

        Raises:
            as :func:`partitioner.load`.
        """
        with self._lock:
            whole = self._loaded()
            if rows == self.sizes[-1]:
                return whole
            pipeline = self._kept.pop(rows, None)
            if pipeline is None:
                pipeline = whole.at(rows, self._tallies.setdefault(rows, Tallies()))
            self._kept[rows] = pipeline
            if len(self._kept) > KEPT_SIZES:
                # Not closed: a call may be under way. It goes with its last one.
                del self._kept[next(iter(self._kept))]
            return pipeline

    def stats(self) -> Stats | None:
        """As of :class:`Pipeline`, with the segments at each size that was asked for, the least
        rows first; None before it is loaded. Weights and memory count for the most rows."""
        with self._lock:
            whole, tallies = self._whole, sorted(self._tallies.items())
        if whole is None:
            return None
        stats = whole.stats()
        smaller = (
            replace(one, batch=rows, calls=own.calls, seconds=own.seconds, mapped=0, packed=0)
            for rows, counted in tallies
            for one in stats.segments
            for own in [counted.of(one.name)]
        )
        return replace(stats, segments=(*smaller, *stats.segments))

    def held(self) -> Held | None:
        """What it has in memory; None before it is loaded."""
        with self._lock:
            whole = self._whole
        return None if whole is None else whole.held()

    def close(self) -> None:
        """Close what is loaded, when no call is under way."""
        with self._lock:
            for pipeline in self._kept.values():
                pipeline.close()
            self._kept.clear()
            if self._whole is not None:
                self._whole.close()

    def _loaded(self) -> Pipeline:
        if self._whole is None:
            self._whole = self._load()
        return self._whole
