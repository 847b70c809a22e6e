"""Which precision each segment's weights need, so that a pipeline stays within an accuracy budget.

1. The plan is run once by its reference; what goes into each segment and what comes out is kept.
2. Each segment by itself gets the smallest level at which its results, on its true inputs, differ
   by no more than the budget.
3. The whole program is run at these levels. While an output differs by more, the segment with the
   largest error of its own goes up a level.

Errors are relative: norm of the difference by norm of what is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from partitioner.artifacts.manifest import Tolerance
from partitioner.compression.rewrite import LEVELS, Level, compressed, weights_of
from partitioner.interpreter import run_program
from partitioner.planning.plan import HostCall, Planned
from partitioner.planning.segments import Segment, run_segment
from partitioner.program import Program, node_type
from partitioner.runtime.compare import compare_gists, gist_of
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule

__all__ = ["Trade", "find_levels"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trade:
    """What was found for one segment.

    Attributes:
        level: name of the level.
        bytes_before, bytes_after: of its weights.
        error: of its results on its true inputs, at this level.
    """

    segment: str
    level: str
    bytes_before: int
    bytes_after: int
    error: float


def find_levels(
    program: Program,
    planned: Planned,
    values: Mapping[str, Array],
    inputs: Mapping[str, torch.Tensor],
    can_compress: Callable[[str], bool],
    budget: float,
) -> tuple[Program, list[Trade]]:
    """Compress a program's weights as far as the budget allows.

    Args:
        values: by value id of the plan: what exists before the first step.
        inputs: by placeholder of the program, the same request.
        can_compress: whether the backend of a name takes compressed weights.
        budget: relative error that outputs, and results of segments, may have.

    Returns:
        the program, and what was found for each segment with weights.
    """
    search = _Search(program, planned, can_compress, budget)
    search.each(_recorded(program, planned, values))
    result = search.whole(inputs)
    return result, search.trades(result)


# --- what goes in and out -----------------------------------------------------------------------


@dataclass
class _Recorder:
    """Runs a segment by its reference, and keeps its first call."""

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

    def __init__(self, recorder: _Recorder) -> None:
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


def _recorded(
    program: Program, planned: Planned, values: Mapping[str, Array]
) -> dict[str, _Recorder]:
    def reference(segment: Segment | HostCall) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
        if isinstance(segment, HostCall):
            return lambda arrays: _run_host(program, segment, arrays)
        return lambda arrays: _run(segment, program.constants, arrays)

    recorders = {
        name: _Recorder(
            planned.plan.segments[name].inputs,
            planned.plan.segments[name].outputs,
            reference(segment),
        )
        for name, segment in planned.segments.items()
    }
    Run(cast(Any, recorders), schedule(planned.plan), values).run()
    return recorders


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


# --- the search ---------------------------------------------------------------------------------


class _Search:
    """Levels of segments, and what they cost in accuracy."""

    def __init__(
        self,
        program: Program,
        planned: Planned,
        can_compress: Callable[[str], bool],
        budget: float,
    ) -> None:
        self._program, self._budget = program, budget
        self._segments = {
            name: segment
            for name, segment in planned.segments.items()
            if isinstance(segment, Segment)
            and can_compress(segment.backend)
            and any(weights_of(segment.graph))
        }
        self._levels = dict.fromkeys(self._segments, len(LEVELS) - 1)
        self._errors: dict[tuple[str, int], float] = {}
        self._recorders: dict[str, _Recorder] = {}

    def each(self, recorders: dict[str, _Recorder]) -> None:
        """The smallest level at which each segment by itself is within the budget."""
        self._recorders = recorders
        for name in self._segments:
            levels = range(len(LEVELS))
            fitting = (level for level in levels if self._error(name, level) <= self._budget)
            self._levels[name] = next(fitting)

    def _error(self, name: str, level: int) -> float:
        if LEVELS[level].name == "float":
            return 0.0
        if (name, level) not in self._errors:
            self._errors[name, level] = self._measured(name, LEVELS[level])
        return self._errors[name, level]

    def _measured(self, name: str, level: Level) -> float:
        segment, recorder = self._segments[name], self._recorders[name]
        if not recorder.results:
            return 0.0
        constants = {
            cast(str, n.target): self._program.constants[cast(str, n.target)]
            for n in segment.graph.nodes
            if n.op == "get_attr"
        }
        one = compressed(Program(main=segment.graph, constants=constants), lambda _: level)
        smaller = Segment(
            segment.name,
            segment.backend,
            one.main,
            segment.inputs,
            segment.outputs,
            segment.stages,
            segment.sources,
        )
        actual = _run(smaller, one.constants, recorder.given)
        pairs = zip(recorder.results, actual, strict=True)
        return max((_relative(want, got) for want, got in pairs), default=0.0)

    def whole(self, inputs: Mapping[str, torch.Tensor]) -> Program:
        """Raise levels until the outputs are within the budget."""
        expected = run_program(self._program, inputs)
        results = cast("tuple[fx.Node, ...]", self._program.main.output_node().args[0])
        pairs = zip(self._program.outputs, results, strict=True)
        exact = {name: None not in node_type(node).shape for name, node in pairs}
        while True:
            result = compressed(self._program, self._level_of())
            if all(level == len(LEVELS) - 1 for level in self._levels.values()):
                return result
            actual = run_program(result, inputs)
            if all(self._holds(expected[n], actual[n], exact[n]) for n in expected):
                return result
            worst = max(
                (n for n in self._levels if LEVELS[self._levels[n]].name != "float"),
                key=lambda n: (self._error(n, self._levels[n]), n),
            )
            self._levels[worst] += 1

    def _holds(self, expected: torch.Tensor, actual: torch.Tensor, exact: bool) -> bool:
        want, got = (gist_of(t.detach().contiguous().numpy()) for t in (expected, actual))
        return compare_gists(want, got, Tolerance(self._budget, 0.0), exact=exact).ok

    def _level_of(self) -> Callable[[str], Level]:
        """The level of a constant: the finest of the segments that read it."""
        chosen: dict[str, int] = {}
        for name, segment in self._segments.items():
            for _, weight in weights_of(segment.graph):
                key = cast(str, weight.target)
                chosen[key] = max(chosen.get(key, 0), self._levels[name])
        return lambda name: LEVELS[chosen.get(name, len(LEVELS) - 1)]

    def trades(self, result: Program) -> list[Trade]:
        """What was found, by segment."""
        level_of = self._level_of()
        found: list[Trade] = []
        for name, segment in self._segments.items():
            names = {cast(str, n.target) for n in segment.graph.nodes if n.op == "get_attr"}
            before = sum(self._program.constants[n].nbytes for n in names)
            after = sum(_bytes_of(result, self._program, n, level_of(n)) for n in names)
            level = self._levels[name]
            found.append(Trade(name, LEVELS[level].name, before, after, self._error(name, level)))
        return found


def _bytes_of(result: Program, before: Program, name: str, level: Level) -> int:
    """Bytes of a constant and what was made of it."""
    if name in result.constants and level.name == "float":
        return result.constants[name].nbytes
    made = [
        tensor.nbytes
        for key, tensor in result.constants.items()
        if key.startswith(f"{name}.int") and key not in before.constants
    ]
    return sum(made) or before.constants[name].nbytes


def _relative(expected: Array, actual: Array) -> float:
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, actual) else float("inf")
    scale = float(np.linalg.norm(expected.reshape(-1)))
    error = float(np.linalg.norm((expected - actual).reshape(-1)))
    return error / scale if scale else (0.0 if not error else float("inf"))
