"""``--accuracy-budget``, ``--quality-budget`` and ``--quantize``: fewer bits, within a budget."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from partitioner.artifacts.manifest import Batch
from partitioner.backends.base import CompileOptions
from partitioner.capture.structure import named_tensors
from partitioner.compression.search import Judge, Results, Static, find_levels, rounding_of
from partitioner.compression.static import StaticProduct
from partitioner.errors import CompileError, ModelError, UsageError
from partitioner.frontend import PARITY_SEED, example_request
from partitioner.placeholders import placeholder_values
from partitioner.planning.segments import Segment
from partitioner.precision import multiplies_in_8_bits
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.quality import QualityBudget, judge
from partitioner.reference import Recorder, record
from partitioner.replanning import replanned
from partitioner.row_parity import rows_of
from partitioner.variants import trips_of, with_trips

__all__ = ["QUANTIZE", "check_quantize", "complete", "compress", "one_budget"]

#: What ``--quantize`` takes.
QUANTIZE = ("int8",)

#: How many calls of each segment calibration sees, spread over loops and examples.
_CALLS = 16


def one_budget(
    accuracy: float | None, quality: QualityBudget | None
) -> float | QualityBudget | None:
    """The budget of compression, if there is one.

    Raises:
        UsageError: there are two.
    """
    if accuracy is not None and quality is not None:
        raise UsageError(
            "an accuracy budget and a quality budget are given", advice="leave one of them out"
        )
    return quality if accuracy is None else float(accuracy)


def check_quantize(
    quantize: str | None, budget: float | QualityBudget | None, examples: int
) -> None:
    """See that quantisation is asked for in a way that can be meant.

    Args:
        budget: of accuracy or of quality.
        examples: how many inputs there are for calibration alone.

    Raises:
        UsageError: an unknown kind, no accuracy budget, or inputs that nothing is calibrated by.
    """
    if quantize is None and examples:
        raise UsageError(
            "calibration inputs are given, but nothing is quantised",
            advice="add quantize='int8' and an accuracy budget, or leave them out",
        )
    if quantize is None:
        return
    if quantize not in QUANTIZE:
        raise UsageError(
            f"there is no quantisation {quantize!r}", advice=f"one of {', '.join(QUANTIZE)}"
        )
    if budget is None:
        raise UsageError(
            "quantising needs to know how far results may be off",
            advice="add an accuracy budget: --quantize int8 --accuracy-budget 5e-2, or a "
            "--quality-budget",
        )


def complete(
    example_inputs: Mapping[str, Any],
    examples: Sequence[Mapping[str, Any]],
    what: str = "calibration inputs",
) -> list[dict[str, Any]]:
    """More examples, each with what only the example inputs have.

    Args:
        what: they are, for the message.

    Raises:
        ModelError: the tensors of one are not of the example's names, shapes and dtypes.
    """
    wanted = _form(example_inputs)
    whole = [{**example_inputs, **one} for one in examples]
    for one in whole:
        given = _form(one)
        different = sorted(n for n in {**wanted, **given} if wanted.get(n) != given.get(n))
        if different:
            raise ModelError(
                f"{what} differ from the example inputs in {different}, in name, shape or dtype",
                advice="give each the form of example_inputs",
            )
    return whole


def _form(example: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(t.shape), t.dtype) for name, t in named_tensors(example).items()}


def compress(
    prepared: Prepared,
    example_inputs: Mapping[str, Any],
    budget: float | QualityBudget,
    *,
    quantize: str | None = None,
    calibration: Sequence[Mapping[str, Any]] = (),
    batch: Batch | None = None,
    timeout_s: float = 1800.0,
    memory_bytes: int | None = None,
    log: Path | None = None,
) -> Prepared:
    """The same pipeline with compressed weights, within an accuracy budget.

    Args:
        budget: relative error that outputs, and results of segments, may have on the examples; or
            how good results have to be by the pipeline's own metric.
        quantize: ``int8`` to compute products in 8 bits, where a backend can.
        calibration: more examples, of the types of ``example_inputs``; the first is that itself.
        batch: of the examples, where these are of several requests: a metric sees each by itself.
        timeout_s, memory_bytes, log: for quantising one segment.

    Raises:
        UsageError: no backend of the target takes compressed weights.
        ModelError: an example is not of the types of the first.
        MissingDependencyError: NNCF is not installed.
    """
    able = {name for name, one in prepared.compilers.items() if getattr(one, "compresses", False)}
    if not able:
        raise UsageError(
            f"no backend of the target {prepared.target.name!r} takes compressed weights",
            advice="build without an accuracy budget",
        )
    examples = [example_inputs, *complete(example_inputs, calibration)]
    case, merged = prepared.cases[0], prepared.merged
    # What goes into segments is seen on the first variant; results are judged on all of them.
    first = with_trips(merged.program, merged.variations[0].trips)
    records = record(
        first,
        prepared.planned,
        [
            example_request(prepared, case, example, PARITY_SEED + index)[1]
            for index, example in enumerate(examples)
        ],
        _CALLS if quantize else 1,
    )
    static: Static | None = None
    if quantize is not None:
        static = _quantised(prepared, first, records, timeout_s, memory_bytes, log)
    if not isinstance(budget, QualityBudget):
        limit, judged = budget, None
    else:
        limit, judged = math.inf, _judge_of(budget, batch)
        more = complete(example_inputs, budget.examples, "quality inputs")
        examples = [example_inputs, *more]
    names = _placeholders(first)
    requests = [_requests(own.captured.program, examples, names) for own in prepared.cases]
    found, trades = find_levels(
        first,
        prepared.planned,
        records,
        requests,
        able.__contains__,
        limit,
        static,
        judged,
        merged.variations,
    )
    # The bundle is compared with the eager pipeline on the first request of each variant; and its
    # packed products, which kernels round in their own ways, with torch's, segment by segment.
    rounding = limit
    if judged is not None:
        variants = zip(merged.variations, requests, strict=True)
        rounding = max(rounding_of(first, found, own, given[:1]) for own, given in variants)
    rounding = max([rounding, *(trade.error for trade in trades)])
    program = with_trips(found, trips_of(merged.program))
    traded = replace(prepared, trades=tuple(trades), rounding=rounding)
    return replanned(traded, replace(merged, program=program))


def _requests(
    captured: Program, examples: Sequence[Mapping[str, Any]], names: set[str]
) -> list[dict[str, torch.Tensor]]:
    """Values of the placeholders with these names, each example with noise of its own."""
    return [
        {n: t for n, t in placeholder_values(captured, one, seed).items() if n in names}
        for seed, one in enumerate(examples, PARITY_SEED)
    ]


def _judge_of(budget: QualityBudget, batch: Batch | None) -> Judge:
    """Whether the mean of the metric over all requests of a variant is high enough."""

    def judged(expected: Results, found: Results) -> bool:
        wants, gots = (
            [row for one in results for row in rows_of(batch, _arrays(one))]
            for results in (expected, found)
        )
        pairs = zip(wants, gots, strict=True)
        values = [judge(budget.metric, want, got) for want, got in pairs]
        return sum(values) / len(values) >= budget.least

    return judged


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.detach().contiguous().numpy() for name, tensor in tensors.items()}


def _quantised(
    prepared: Prepared,
    program: Program,
    records: Mapping[str, Recorder],
    timeout_s: float,
    memory_bytes: int | None,
    log: Path | None,
) -> Static:
    """Products in 8 bits of the segments whose backend can; a failure is a reason, not an end."""
    products: dict[str, Mapping[str, StaticProduct]] = {}
    reasons: dict[str, str] = {}
    half_range = not multiplies_in_8_bits(prepared.target)
    with tempfile.TemporaryDirectory(prefix="partitioner-") as name:
        options = CompileOptions(Path(name), Path(name), timeout_s, memory_bytes, log)
        for segment in prepared.planned.segments.values():
            if not isinstance(segment, Segment):
                continue
            quantise = getattr(prepared.compilers[segment.backend], "quantise", None)
            if quantise is None:
                reasons[segment.name] = f"the backend {segment.backend!r} quantises weights only"
                continue
            calls = [call.given for call in records[segment.name].calls]
            try:
                products[segment.name] = quantise(
                    segment, program.constants, calls, options, half_range=half_range
                )
            except CompileError as error:
                reasons[segment.name] = error.what.splitlines()[0]
    return Static(products, reasons)


def _placeholders(program: Program) -> set[str]:
    return {str(n.target) for n in program.main.nodes if n.op == "placeholder"}
