"""Which precision each segment's products need, so that a pipeline stays within an accuracy budget.

1. The plan is run by its reference; what goes into each segment and what comes out is kept
   (:mod:`partitioner.reference`).
2. Each segment by itself gets the first level of its ladder at which its results, on its true
   inputs, differ by no more than the budget.
3. The whole program is run at these levels. While an output differs by more, the segment with the
   largest error of its own goes up a level.

Errors are relative: norm of the difference by norm of what is expected. Where results are judged by
a metric instead, segments begin at the first level of their ladder, and go up while the metric says
that the whole is not good enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from partitioner.artifacts.manifest import Tolerance
from partitioner.compression.rewrite import LEVELS, STATIC, Level, compressed, weights_of
from partitioner.compression.static import StaticProduct, merged
from partitioner.errors import UsageError
from partitioner.interpreter import run_program
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment
from partitioner.program import Program, node_type
from partitioner.reference import Recorder, run_reference
from partitioner.runtime.compare import compare_gists, gist_of
from partitioner.variants import Variation, with_trips

__all__ = ["Judge", "Results", "Static", "Trade", "find_levels", "results_of", "rounding_of"]

Array = npt.NDArray[Any]
Results = Sequence[Mapping[str, torch.Tensor]]
Requests = Sequence[Mapping[str, torch.Tensor]]

#: Whether what was found (second) will do for what is expected, of all requests.
Judge = Callable[[Results, Results], bool]


@dataclass(frozen=True)
class Trade:
    """What was found for one segment.

    Attributes:
        level: name of the level.
        bytes_before, bytes_after: of its weights.
        error: of its results on its true inputs, at this level.
        tried: the errors of the levels that were tried, by name; None where nothing finite came
            of one.
        reason: why it could not be quantised at all, where that was asked for and failed.
    """

    segment: str
    level: str
    bytes_before: int
    bytes_after: int
    error: float
    tried: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    reason: str = ""


@dataclass(frozen=True)
class Static:
    """What post-training quantisation has found.

    Attributes:
        products: segment -> name of a weight -> its product.
        reasons: segment -> why it has none.
    """

    products: Mapping[str, Mapping[str, StaticProduct]]
    reasons: Mapping[str, str]


def find_levels(
    program: Program,
    planned: Planned,
    records: Mapping[str, Recorder],
    requests: Sequence[Requests],
    can_compress: Callable[[str], bool],
    budget: float,
    static: Static | None = None,
    judge: Judge | None = None,
    variations: Sequence[Variation] = (Variation(),),
) -> tuple[Program, list[Trade]]:
    """Compress a program's weights as far as the budget allows.

    Args:
        records: of the plan's segments on the requests.
        requests: of each variation, by placeholder of the program.
        can_compress: whether the backend of a name takes compressed weights.
        budget: relative error that outputs, and results of segments, may have.
        judge: instead of the budget, which is then infinite.
        static: if products are to be in 8 bits on both sides where that is known, and no weight in
            less than 8 bits.
        variations: what each variant has for itself; every one has to be good enough.

    Returns:
        the program, and what was found for each segment with weights.
    """
    search = _Search(program, planned, records, can_compress, budget, static, judge)
    search.each()
    result = search.whole(list(zip(variations, requests, strict=True)))
    return result, search.trades(result)


class _Search:
    """Levels of segments, and what they cost in accuracy."""

    def __init__(
        self,
        program: Program,
        planned: Planned,
        records: Mapping[str, Recorder],
        can_compress: Callable[[str], bool],
        budget: float,
        static: Static | None,
        judge: Judge | None,
    ) -> None:
        self._judge = judge or self._within_budget
        self._program, self._records, self._budget = program, records, budget
        self._segments = {
            name: segment
            for name, segment in planned.segments.items()
            if isinstance(segment, Segment)
            and can_compress(segment.backend)
            and any(weights_of(segment.graph))
        }
        self._static = static or Static({}, {})
        self._ladder = LEVELS if static is None else (STATIC, *LEVELS[1:])
        self._products = merged(self._static.products.values())
        self._levels = dict.fromkeys(self._segments, len(self._ladder) - 1)
        self._errors: dict[tuple[str, int], float] = {}

    def each(self) -> None:
        """The first level at which each segment by itself is within the budget."""
        for name in self._segments:
            levels = (
                index
                for index, level in enumerate(self._ladder)
                if not level.static or self._static.products.get(name)
            )
            fitting = (level for level in levels if self._error(name, level) <= self._budget)
            self._levels[name] = next(fitting)

    def _error(self, name: str, level: int) -> float:
        if self._ladder[level].name == "float":
            return 0.0
        if (name, level) not in self._errors:
            self._errors[name, level] = self._measured(name, self._ladder[level])
        return self._errors[name, level]

    def _measured(self, name: str, level: Level) -> float:
        """The largest error of the calls that were kept; 0 where there was none."""
        segment = self._segments[name]
        constants = {
            cast(str, n.target): self._program.constants[cast(str, n.target)]
            for n in segment.graph.nodes
            if n.op == "get_attr"
        }
        whole = Program(main=segment.graph, constants=constants)
        one = compressed(whole, lambda _: level, self._products)
        smaller = replace(segment, graph=one.main)
        return max(
            (
                _relative(want, got)
                for call in self._records[name].calls
                for want, got in zip(
                    call.results, run_reference(smaller, one.constants, call.given), strict=True
                )
            ),
            default=0.0,
        )

    def whole(self, asked: Sequence[tuple[Variation, Requests]]) -> Program:
        """Raise levels until the outputs will do, those of each variant by themselves."""
        expected = [results_of(self._program, *one) for one in asked]
        while True:
            result = compressed(self._program, self._level_of(), self._products)
            if all(level == len(self._ladder) - 1 for level in self._levels.values()):
                return result
            pairs = zip(expected, asked, strict=True)
            if all(self._judge(want, results_of(result, *one)) for want, one in pairs):
                return result
            worst = max(
                (n for n in self._levels if self._ladder[self._levels[n]].name != "float"),
                key=lambda n: (self._error(n, self._levels[n]), n),
            )
            self._levels[worst] += 1

    def _within_budget(self, expected: Results, found: Results) -> bool:
        return _within(self._program, expected, found, self._budget)

    def _level_of(self) -> Callable[[str], Level]:
        """The level of a constant: the finest of the segments that read it."""
        chosen: dict[str, int] = {}
        for name, segment in self._segments.items():
            for _, weight in weights_of(segment.graph):
                key = cast(str, weight.target)
                chosen[key] = max(chosen.get(key, 0), self._levels[name])
        return lambda name: self._ladder[chosen.get(name, len(self._ladder) - 1)]

    def trades(self, result: Program) -> list[Trade]:
        """What was found, by segment."""
        level_of = self._level_of()
        found: list[Trade] = []
        for name, segment in self._segments.items():
            names = {cast(str, n.target) for n in segment.graph.nodes if n.op == "get_attr"}
            before = sum(self._program.constants[n].nbytes for n in names)
            after = sum(_bytes_of(result, self._program, n, level_of(n)) for n in names)
            level = self._levels[name]
            tried = {
                self._ladder[index].name: error if math.isfinite(error) else None
                for (segment_name, index), error in self._errors.items()
                if segment_name == name
            }
            found.append(
                Trade(
                    name,
                    self._ladder[level].name,
                    before,
                    after,
                    self._error(name, level),
                    tried,
                    self._static.reasons.get(name, ""),
                )
            )
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


def results_of(program: Program, variation: Variation, requests: Requests) -> Results:
    """What a variant of a program gives for each request."""
    own = with_trips(program, variation.trips)
    own.constants.update(variation.constants)
    return [run_program(own, request) for request in requests]


def rounding_of(
    program: Program, smaller: Program, variation: Variation, requests: Requests
) -> float:
    """How far the outputs of a compressed program are off: the least power of 2, from a thousandth
    on, that would do as a budget.

    Raises:
        UsageError: they are off by more than all there is.
    """
    expected, found = (results_of(p, variation, requests) for p in (program, smaller))
    for exponent in range(-10, 1):
        if _within(program, expected, found, 2.0**exponent):
            return 2.0**exponent
    raise UsageError(
        "the metric accepts results that have nothing in common with those of the eager pipeline",
        advice="ask for more, or look at what 'quality' of the model file measures",
    )


def _within(program: Program, expected: Results, found: Results, budget: float) -> bool:
    """Whether all outputs of all requests differ by no more than a budget."""
    results = cast("tuple[fx.Node, ...]", program.main.output_node().args[0])
    pairs = zip(program.outputs, results, strict=True)
    exact = {name: None not in node_type(node).shape for name, node in pairs}
    return all(
        _holds(want[name], got[name], exact[name], budget)
        for want, got in zip(expected, found, strict=True)
        for name in want
    )


def _holds(expected: torch.Tensor, actual: torch.Tensor, exact: bool, budget: float) -> bool:
    want, got = (gist_of(t.detach().contiguous().numpy()) for t in (expected, actual))
    return compare_gists(want, got, Tolerance(budget, 0.0), exact=exact).ok


def _relative(expected: Array, actual: Array) -> float:
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, actual) else math.inf
    scale = float(np.linalg.norm(expected.reshape(-1)))
    error = float(np.linalg.norm((expected - actual).reshape(-1)))
    if not math.isfinite(error):
        return math.inf
    return error / scale if scale else (0.0 if not error else math.inf)
