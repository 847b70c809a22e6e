"""What a running pipeline tells its caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partitioner.errors import UsageError

__all__ = ["Callback", "Carried", "Observer", "StepEvent"]

Array = np.ndarray[Any, Any]


class Carried:
    """What a loop hands from trip to trip, for as long as a callback looks at it.

    Args:
        names: of the values, for people.
        arrays: in the same order; their memory belongs to the run.
    """

    __slots__ = ("_arrays", "_names")

    def __init__(self, names: Sequence[str], arrays: Sequence[Array]) -> None:
        self._names = names
        self._arrays: Sequence[Array] | None = arrays

    def arrays(self, *, copy: bool) -> dict[str, Array]:
        """Name -> array; without ``copy``, views that cannot be written to.

        Raises:
            UsageError: the callback is over, and with it what there was to see.
        """
        if self._arrays is None:
            raise UsageError(
                "the carried values of a step can be had only while its callback runs",
                advice="call event.carried() in the callback, and keep what it gives",
            )
        return {
            name: array.copy() if copy else _view(array)
            for name, array in zip(self._names, self._arrays, strict=True)
        }

    def end(self) -> None:
        """The next trip may write over the values."""
        self._arrays = None


def _view(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A trip of a loop is done.

    Args:
        loop: the loop's name.
        step: which trip, from 0.
        trips: how many the loop makes.
        values: what it carries; see :meth:`carried`.
    """

    loop: str
    step: int
    trips: int
    values: Carried | None = field(default=None, compare=False, repr=False)

    @property
    def done(self) -> float:
        """How much of the loop is done, 0 to 1."""
        return (self.step + 1) / self.trips

    def carried(self, *, copy: bool = True) -> dict[str, Array]:
        """What the loop carries after this trip: the latent that a sampler denoises, say.

        A value has the name of the output that it becomes, else of the input that it began as, else
        of the value in the bundle's plan. In a bucket it has a row for each request, the rows that
        fill the bucket up included.

        Args:
            copy: False for views instead, that cannot be written to and mean nothing once the
                callback has returned, since the next trips write to the same memory. Nothing is
                copied unless this is called.

        Raises:
            UsageError: the callback has returned.
        """
        return {} if self.values is None else self.values.arrays(copy=copy)


#: Called after each trip of a loop. What it raises cancels the request and reaches the caller.
Callback = Callable[[StepEvent], object]

#: Called after each call of a segment with the segment's name, the count of its calls so far in
#: this run (from 0) and its outputs by name (copies). For checking; it makes a run slower.
Observer = Callable[[str, int, Mapping[str, np.ndarray[Any, Any]]], object]
