"""A plan run by its reference, torch and host ops, with the first call of every segment kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from partitioner.planning.plan import HostCall, Planned
from partitioner.planning.segments import Segment, run_segment
from partitioner.program import Program
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule

__all__ = ["FirstCall", "first_calls"]

Array = npt.NDArray[Any]


@dataclass
class FirstCall:
    """A segment that is run by a function, and what went in and out when it was called first.

    Attributes:
        inputs, outputs: of the segment, as an executable has them.
        given, results: arrays of the first call, copied; empty before it.
    """

    inputs: Any
    outputs: Any
    function: Callable[[Sequence[Array]], tuple[Array, ...]]
    given: list[Array] = field(default_factory=list[Any])
    results: list[Array] = field(default_factory=list[Any])

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        results = self.function(arrays)
        if not self.results:
            self.given = [np.array(array) for array in arrays]
            self.results = [np.array(array) for array in results]
        return results

    def bind(self) -> _Bound:
        return _Bound(self)

    def close(self) -> None:
        """Nothing is held."""


class _Bound:
    """A call on arrays that are set before."""

    def __init__(self, call: FirstCall) -> None:
        self._call = call
        self._given: dict[int, Array] = {}
        self._targets: dict[int, Array | None] = {}

    def set_input(self, index: int, array: Array) -> None:
        self._given[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self._targets[index] = array

    def run(self) -> tuple[Array, ...]:
        results = list(self._call(*(self._given[i] for i in range(len(self._given)))))
        for index, target in self._targets.items():
            if target is not None:
                target[...] = results[index]
                results[index] = target
        return tuple(results)


def first_calls(
    program: Program, planned: Planned, values: Mapping[str, Array]
) -> dict[str, FirstCall]:
    """Run a plan, every segment by torch and every host op as it is.

    Args:
        values: what exists before the first step, by value id.

    Returns:
        segment -> its first call.
    """

    def reference(segment: Segment | HostCall) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
        if isinstance(segment, HostCall):
            return lambda arrays: _run_host(program, segment, arrays)
        return lambda arrays: _run(segment, program.constants, arrays)

    calls = {
        name: FirstCall(
            planned.plan.segments[name].inputs,
            planned.plan.segments[name].outputs,
            reference(segment),
        )
        for name, segment in planned.segments.items()
    }
    Run(cast(Any, calls), schedule(planned.plan), values).run()
    return calls


def _run(
    segment: Segment, constants: Mapping[str, torch.Tensor], arrays: Sequence[Array]
) -> tuple[Array, ...]:
    # Copies: torch cannot take read-only arrays, and inputs may be mapped constants.
    results = run_segment(segment, constants, [torch.from_numpy(np.array(a)) for a in arrays])
    return tuple(result.detach().contiguous().numpy() for result in results)


def _run_host(program: Program, segment: HostCall, arrays: Sequence[Array]) -> tuple[Array, ...]:
    op = program.host_ops[segment.op]
    results = op.run(*arrays, **segment.options)
    return tuple(np.asarray(results[name]) for name in op.outputs)
