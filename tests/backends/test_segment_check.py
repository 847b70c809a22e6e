"""The check of whole segments: right ones pass, planted wrong ones do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.lifting import lifted_names
from partitioner.backends.neuron.segment_check import SegmentCheck, SegmentJob, check_segments
from partitioner.interpreter import run_nodes
from partitioner.planning.segments import Segment
from partitioner.reference import Kept, Recorder
from partitioner.targets import find_target
from partitioner.weights import lay_out

from .segments import Draft, aten

X = np.random.default_rng(0).standard_normal((2, 24)).astype(np.float32)


def called(given: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> Recorder:
    """A segment that was called once."""
    return Recorder((), (), lambda arrays: (), calls=[Kept(tuple(given), tuple(results))])


def affine() -> tuple[Segment, dict[str, torch.Tensor]]:
    """With a weight that lies in a blob, and a bias that does not."""
    draft = Draft()
    weight = draft.constant("net.weight", torch.linspace(-1, 1, 24 * 24).reshape(24, 24))
    bias = draft.constant("net.bias", torch.linspace(0, 1, 24))
    product = draft.op(aten.mm.default, draft.input("x", 2, 24), weight)
    return draft.done(draft.op(aten.add.Tensor, product, bias)), draft.constants


def first_call(segment: Segment, constants: dict[str, torch.Tensor]) -> Recorder:
    results = run_nodes(segment.graph, constants, [torch.from_numpy(X)])
    kept = Kept((X,), tuple(one.numpy() for one in results))
    return Recorder((), (), lambda arrays: (), calls=[kept])


def refused() -> Segment:
    draft = Draft()
    both = draft.op(aten.sort.default, draft.input("x", 2, 24))
    return draft.done(draft.item(both, 0), name="sorted")


def unknown() -> Segment:
    draft = Draft()
    op = aten.special_bessel_j0.default
    return draft.done(draft.op(op, draft.input("x", 2, 24)), name="bessel")


def test_segments_are_checked_one_by_one() -> None:
    segment, constants = affine()
    segments = {"part": segment, "sorted": refused(), "bessel": unknown()}
    calls = {name: first_call(one, constants) for name, one in segments.items()}
    right, sorts, bessel = check_segments(segments, constants, find_target("inf2"), lambda: calls)
    assert ("part", True, "") == (right.name, right.passed, right.failure)
    assert right.error is not None
    assert right.error < 1e-6
    assert right.report is not None
    assert 5_000_000 == right.limit

    # It computes the right thing, but not on Neuron.
    assert sorts.report is not None
    assert (False, 0.0) == (sorts.passed, sorts.error)
    assert ["EVRF029"] == [found.detail for found in sorts.report.findings]

    assert (False, None) == (bessel.passed, bessel.report)
    assert "torch-mlir does not lower aten.special_bessel_j0.default" in bessel.failure
    assert "m.py:1 in forward" == bessel.source


def planted(folder: Path, old: str, new: str) -> SegmentCheck:
    """The check of :func:`affine` whose lowering is changed behind its back."""
    segment, constants = affine()
    with BundleWriter(folder / "weights") as writer:
        layout = lay_out(constants, lifted_names(segment, constants), writer)
        job = SegmentJob(segment, constants, None, folder / "job", 600.0)
        check = job.lower()
        lowered = folder / "job" / "module.mlir"
        assert old in lowered.read_text()
        lowered.write_text(lowered.read_text().replace(old, new))
        (call,) = first_call(segment, constants).calls
        return job.run(check, call, layout, writer.blobs_dir)


def test_a_wrong_lowering_is_found(tmp_path: Path) -> None:
    check = planted(tmp_path, "stablehlo.add", "stablehlo.subtract")
    assert check.error is not None
    assert 0.01 < check.error < math.inf
    assert not check.passed


def test_a_lowering_that_is_no_program_is_found(tmp_path: Path) -> None:
    check = planted(tmp_path, "stablehlo.add", "stablehlo.nonsense")
    assert "IREE does not compile" in check.failure
    assert not check.passed


def test_a_segment_that_is_not_called_is_said_to_be(tmp_path: Path) -> None:
    segment, constants = affine()
    call = Recorder((), (), lambda arrays: ())
    (check,) = check_segments(
        {"part": segment}, constants, find_target("inf2"), lambda: {"part": call}
    )
    assert (False, None) == (check.passed, check.error)
    assert "does not call it" in check.failure


def test_what_is_checked_is_what_the_tracer_is_given() -> None:
    draft = Draft()
    index = draft.input("index", 3, dtype=torch.int64)
    scale, unused = draft.input("scale"), draft.input("unused", 2)
    table = draft.constant("table", torch.linspace(0, 1, 40).reshape(10, 4))
    rows = draft.op(aten.mul.Tensor, draft.op(aten.embedding.default, table, index), scale)
    one = draft.op(aten.sum.default, rows)
    segment = draft.done(rows, index, one, draft.op(aten.add.Tensor, index, 1), rows)
    given = [np.array([1, 9, 4]), np.full((), 2, np.float32), np.zeros(2, np.float32)]
    results = run_nodes(segment.graph, draft.constants, [torch.from_numpy(a) for a in given])
    call = called(given, [result.numpy() for result in results])
    assert "unused" == unused.name
    (found,) = check_segments(
        {"part": segment}, draft.constants, find_target("inf2"), lambda: {"part": call}
    )
    assert ("", True) == (found.failure, found.passed)
    assert found.report is not None
    # In and out: integers of 32 bits.
    assert 2 <= found.report.opcodes["convert"]


def test_doubles_at_the_border_are_found() -> None:
    draft = Draft()
    segment = draft.done(
        draft.op(
            aten._to_copy.default, draft.input("x", 2, dtype=torch.float64), dtype=torch.float32
        )
    )
    call = called([np.ones(2)], [np.ones(2, np.float32)])
    (found,) = check_segments({"part": segment}, {}, find_target("inf2"), lambda: {"part": call})
    assert not found.passed
