"""Arrays of one run, counted and used again.

Values of a run live in buffers. A buffer counts the values that stand on it (a row of a stacked
value stands on the buffer of the whole), and when the last of them is dropped inside a loop, the
next trip's values take it. So a loop allocates during its first trips and never again, and a
carried value alternates between two buffers, or more where a step looks further back, without
anybody having planned it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Array", "Buffer", "Pool", "Value"]

Array = np.ndarray[Any, Any]


class Buffer:
    """An array that belongs to the run, and how many values stand on it.

    ``key`` is what the pool files it under; None for an array that a backend has allocated and
    may know of, which is never written to again.
    """

    __slots__ = ("array", "key", "uses")

    def __init__(self, array: Array, key: tuple[str, tuple[int, ...]] | None = None) -> None:
        self.array = array
        self.key = key
        self.uses = 1


class Value:
    """The array of a value, and the buffer it stands on (None: memory that is not the run's)."""

    __slots__ = ("array", "buffer")

    def __init__(self, array: Array, buffer: Buffer | None = None) -> None:
        self.array = array
        self.buffer = buffer


class Pool:
    """Free buffers by dtype and shape. Belongs to one run."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, tuple[int, ...]], list[Buffer]] = {}
        self._loops = 0

    def take(self, dtype: str, shape: tuple[int, ...]) -> Buffer:
        """A buffer that one value stands on, the caller's; its content is arbitrary."""
        key = (dtype, shape)
        free = self._free.get(key)
        if free:
            buffer = free.pop()
            buffer.uses = 1
            return buffer
        return Buffer(np.empty(shape, dtype), key)

    def release(self, value: Value) -> None:
        """Drop a value; its buffer is free when nothing else stands on it."""
        buffer = value.buffer
        if buffer is None:
            return
        buffer.uses -= 1
        # Outside of loops nothing comes back to ask for the same buffer: let the memory go.
        if buffer.uses == 0 and self._loops and buffer.key is not None:
            self._free.setdefault(buffer.key, []).append(buffer)

    def enter_loop(self) -> None:
        self._loops += 1

    def leave_loop(self) -> None:
        self._loops -= 1
        if not self._loops:
            self._free.clear()

    @property
    def in_loop(self) -> bool:
        return self._loops > 0


def retained(value: Value) -> Value:
    """Count one more value on the same buffer."""
    if value.buffer is not None:
        value.buffer.uses += 1
    return value
