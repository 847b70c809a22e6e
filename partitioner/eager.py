"""Segments run by torch, in place of what is not compiled yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from partitioner.backends.execution import BoundCall, OfSegment
from partitioner.plan import SegmentInfo
from partitioner.planning.segments import Segment, run_segment

__all__ = ["EagerSegment"]

Array = npt.NDArray[Any]


class EagerSegment(OfSegment):
    """A segment as an executable. Thread-safe."""

    def __init__(
        self, segment: Segment, constants: Mapping[str, torch.Tensor], info: SegmentInfo
    ) -> None:
        super().__init__(info)
        self._segment = segment
        self._constants = constants

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Run once; arrays in the order of ``inputs``, new arrays in the order of ``outputs``."""
        # Copies: torch cannot take read-only arrays, and inputs may be mapped constants.
        inputs = [torch.from_numpy(np.array(array)) for array in arrays]
        with torch.no_grad():
            results = run_segment(self._segment, self._constants, inputs)
        return tuple(result.contiguous().numpy() for result in results)

    def bind(self) -> BoundCall:
        return _Bound(self)

    def close(self) -> None:
        """Nothing is held."""


class _Bound:
    def __init__(self, executable: EagerSegment) -> None:
        self._executable = executable
        self._inputs: dict[int, Array] = {}
        self._outputs: dict[int, Array | None] = {}

    def set_input(self, index: int, array: Array) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self._outputs[index] = array

    def run(self) -> tuple[Array, ...]:
        results = list(self._executable(*(self._inputs[i] for i in sorted(self._inputs))))
        for index, target in self._outputs.items():
            if target is not None:
                np.copyto(target, results[index])
                results[index] = target
        return tuple(results)
