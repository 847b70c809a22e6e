"""The memory of runs: one arena for each that is under way, used again by later ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from partitioner.buffers import Storage
from partitioner.buffers.layout import ALIGNMENT
from partitioner.errors import BackendError
from partitioner.runtime.schedule import Scheduled

__all__ = ["Arena", "Arenas", "Array"]

Array = np.ndarray[Any, Any]


class Arena:
    """Memory for one run at a time.

    Args:
        nbytes: at least those of the schedules that run on it.

    Attributes:
        nbytes: that it has.

    Raises:
        BackendError: there is not so much memory.
    """

    def __init__(self, nbytes: int) -> None:
        # One number more than the alignment asks for, so that empty arrays have a place, too.
        memory = _empty((nbytes + ALIGNMENT,), "uint8")
        skipped = -memory.ctypes.data % ALIGNMENT
        self._memory = memory[skipped : skipped + nbytes + 1]
        self.nbytes = nbytes
        # Schedules of batch sizes that are no longer kept are gone from here, too.
        self._views: WeakKeyDictionary[Scheduled, list[Array | None]] = WeakKeyDictionary()

    def arrays(self, schedule: Scheduled) -> list[Array | None]:
        """An array for each storage of a schedule: in the arena, or the caller's own and new.

        Those of loose storages, which are not planned memory, are None.
        """
        views = self._views.get(schedule)
        storages = schedule.buffers.storages
        if views is None:
            views = self._views[schedule] = self._made(storages)
        return [
            _empty(_shape(storage), storage.spec.dtype) if storage.kind == "output" else view
            for storage, view in zip(storages, views, strict=True)
        ]

    def _made(self, storages: Sequence[Storage]) -> list[Array | None]:
        return [
            np.ndarray(_shape(storage), storage.spec.dtype, self._memory.data, storage.offset)
            if storage.kind == "arena"
            else None
            for storage in storages
        ]


class Arenas:
    """Arenas for the runs of some schedules, as many as have ever been under way at once.

    Taking and giving back are single operations on a list, so threads need no lock.

    Args:
        schedules: that run on them.
        shared: others, whose memory these have in common: runs of either take it in turn, and what
            is too small for one gives way to what it needs.
    """

    def __init__(self, schedules: Sequence[Scheduled], shared: Arenas | None = None) -> None:
        self.nbytes = max(schedule.buffers.arena for schedule in schedules)
        self._free: list[Arena] = [] if shared is None else shared._free
        self._made: list[int] = [] if shared is None else shared._made

    @property
    def taken(self) -> int:
        """Bytes of all arenas that there are."""
        return sum(self._made)

    def take(self) -> Arena:
        """An arena that no other run has.

        Raises:
            BackendError: there is no memory for one more.
        """
        try:
            arena = self._free.pop()
        except IndexError:
            return self._new()
        if arena.nbytes >= self.nbytes:
            return arena
        self._made.remove(arena.nbytes)
        del arena  # before there is the larger one
        return self._new()

    def give_back(self, arena: Arena) -> None:
        self._free.append(arena)

    def clear(self) -> None:
        """Give back the memory."""
        self._free.clear()
        self._made.clear()

    def _new(self) -> Arena:
        arena = Arena(self.nbytes)
        self._made.append(self.nbytes)
        return arena


def _shape(storage: Storage) -> tuple[int, ...]:
    return tuple(dim for dim in storage.spec.shape if isinstance(dim, int))


def _empty(shape: tuple[int, ...], dtype: str) -> Array:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise BackendError(
            f"no memory for {dtype}{list(shape)}, which a run needs",
            advice="`partition inspect` shows what a run takes; serve fewer requests at once, or "
            "on a larger machine",
        ) from error
