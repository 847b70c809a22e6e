"""HLO as Neuron's tracer would hand it to neuronx-cc: torch_xla on the CPU (``make test-xla``)."""

from __future__ import annotations

import pytest
import torch

from partitioner.backends.neuron.hlo_check import check_program
from partitioner.backends.neuron.hlo_text import read_hlo
from partitioner.backends.neuron.xla_front_end import trace
from partitioner.frontend import prepare
from partitioner.interpreter import run_nodes
from partitioner.modelfile import load_model
from partitioner.planning.segments import Segment

from .segments import Draft, aten
from .test_stablehlo import network

pytestmark = pytest.mark.xla


def relative(expected: torch.Tensor, actual: torch.Tensor) -> float:
    distance = torch.linalg.vector_norm(expected.double() - actual.double())
    return float(distance / torch.linalg.vector_norm(expected.double()).clamp(min=1e-30))


def check(segment: Segment, constants: dict[str, torch.Tensor]) -> None:
    """Nothing in a segment's HLO is refused, and it computes what torch does."""
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(type_.shape, generator=generator).to(type_.dtype)
        if type_.dtype.is_floating_point
        else torch.zeros(type_.shape, dtype=type_.dtype)
        for type_ in segment.input_types
    ]
    expected = run_nodes(segment.graph, constants, inputs)
    traced = trace(segment.graph, constants, inputs)
    report = check_program(read_hlo(traced.text))
    assert [] == [found for found in report.findings if found.refused]
    assert 0 < report.instructions < 5_000_000
    # The protobuf has parameters for weights, and not their numbers.
    assert 0 < len(traced.proto) < 2**20
    for want, have in zip(expected, traced.results, strict=True):
        assert (want.dtype, want.shape) == (have.dtype, have.shape)
        assert relative(want, have) < 1e-4


def test_what_segments_are_made_of() -> None:
    draft = network()
    check(Segment("part", "neuron", draft.graph, ("x",), (), (), ()), draft.constants)


def test_what_neuron_does_not_have_is_found() -> None:
    draft = Draft()
    both = draft.op(aten.sort.default, draft.input("x", 4, 8))
    draft.done(draft.item(both, 0))
    traced = trace(draft.graph, {}, [torch.ones(4, 8)])
    found = {one.detail for one in check_program(read_hlo(traced.text)).findings}
    assert "EVRF029" in found


def test_all_segments_of_bernini() -> None:
    model = load_model("examples/bernini/model.py", {"size": "tiny"})
    prepared = prepare(
        model.pipeline,
        model.example_inputs,
        target="inf2",
        inputs=model.inputs,
        stages=model.stages,
        options=model.options,
    )
    segments = [
        one
        for one in prepared.planned.segments.values()
        if isinstance(one, Segment) and one.backend == "neuron"
    ]
    assert segments
    for segment in segments:
        check(segment, prepared.program.constants)
