"""What a running pipeline tells its caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Callback", "Observer", "StepEvent"]


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A trip of a loop is done.

    Args:
        loop: the loop's name.
        step: which trip, from 0.
        trips: how many the loop makes.
    """

    loop: str
    step: int
    trips: int

    @property
    def done(self) -> float:
        """How much of the loop is done, 0 to 1."""
        return (self.step + 1) / self.trips


#: Called after each trip of a loop. What it raises cancels the request and reaches the caller.
Callback = Callable[[StepEvent], object]

#: Called after each call of a segment with the segment's name, the count of its calls so far in
#: this run (from 0) and its outputs by name (copies). For checking; it makes a run slower.
Observer = Callable[[str, int, Mapping[str, np.ndarray[Any, Any]]], object]
