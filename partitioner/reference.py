"""A plan run by its reference, torch and host ops, with some calls of every segment kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment, run_segment
from partitioner.planning.tables import HostCall
from partitioner.program import Program
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule

__all__ = ["Kept", "Recorder", "record", "run_reference"]

Array = npt.NDArray[Any]

#: Bytes of arrays that may be kept of one segment beyond its first call.
_KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Kept:
    """One call of a segment: arrays in the order of its inputs and of its outputs."""

    given: tuple[Array, ...]
    results: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (*self.given, *self.results))


@dataclass
class Recorder:
    """Runs a segment by its reference, and keeps some of its calls.

    Attributes:
        limit: how many; they are spread evenly over all calls, and the first is one of them.
        calls: those kept, in their order.
    """

    inputs: Any
    outputs: Any
    function: Callable[[Sequence[Array]], tuple[Array, ...]]
    limit: int = 1
    calls: list[Kept] = field(default_factory=list[Kept])
    count: int = 0
    stride: int = 1

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        results = self.function(arrays)
        if self.count % self.stride == 0:
            self._keep(arrays, results)
        self.count += 1
        return results

    def _keep(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        if self.limit == 1 and self.calls:
            return
        kept = Kept(tuple(np.array(a) for a in arrays), tuple(np.array(a) for a in results))
        self.calls.append(kept)
        self.limit = max(1, min(self.limit, _KEPT_BYTES // max(1, kept.nbytes)))
        if len(self.calls) > self.limit:
            # Half as many, twice as far apart: how many calls there will be is not known.
            self.calls = self.calls[::2][: self.limit]
            self.stride *= 2

    def bind(self) -> _Bound:
        return _Bound(self)

    def close(self) -> None:
        """Nothing is held."""


class _Bound:
    """A call on arrays that are set before."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._given: dict[int, Array] = {}
        self._targets: dict[int, Array | None] = {}

    def set_input(self, index: int, array: Array) -> None:
        self._given[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self._targets[index] = array

    def run(self) -> tuple[Array, ...]:
        results = list(self._recorder(*(self._given[i] for i in range(len(self._given)))))
        for index, target in self._targets.items():
            if target is not None:
                target[...] = results[index]
                results[index] = target
        return tuple(results)


def record(
    program: Program,
    planned: Planned,
    requests: Sequence[Mapping[str, Array]],
    limit: int = 1,
) -> dict[str, Recorder]:
    """Run a plan by its reference, on one request after the other.

    Args:
        requests: by value id of the plan: what exists before the first step.
        limit: how many calls of each segment to keep.

    Returns:
        by segment.
    """

    def reference(segment: Segment | HostCall) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
        if isinstance(segment, HostCall):
            return lambda arrays: _run_host(program, segment, arrays)
        return lambda arrays: run_reference(segment, program.constants, arrays)

    recorders = {
        name: Recorder(
            planned.plan.segments[name].inputs,
            planned.plan.segments[name].outputs,
            reference(segment),
            limit,
        )
        for name, segment in planned.segments.items()
    }
    for values in requests:
        Run(cast(Any, recorders), schedule(planned.plan), values).run()
    return recorders


def run_reference(
    segment: Segment, constants: Mapping[str, torch.Tensor], arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Run a segment with torch on arrays in the order of its inputs."""
    # Copies: torch cannot take read-only arrays, and inputs may be mapped constants.
    results = run_segment(segment, constants, [torch.from_numpy(np.array(a)) for a in arrays])
    return tuple(result.detach().contiguous().numpy() for result in results)


def _run_host(program: Program, segment: HostCall, arrays: Sequence[Array]) -> tuple[Array, ...]:
    op = program.host_ops[segment.op]
    results = op.run(*arrays, **segment.options)
    return tuple(np.asarray(results[name]) for name in op.outputs)
