"""Whole pipelines planned for inf2: each Neuron segment passes, and is what torch computes."""

from __future__ import annotations

from typing import Any

import pytest

from partitioner.cli import segment_report
from partitioner.frontend import prepare
from partitioner.modelfile import load_model
from partitioner.prepared import Prepared
from tests import test_diffusers

MODEL = "examples/bernini/model.py"


def bernini(size: str) -> tuple[Prepared, dict[str, Any]]:
    model = load_model(MODEL, {"size": size})
    given: dict[str, Any] = {"options": model.options, "inputs": model.inputs}
    prepared = prepare(
        model.pipeline, model.example_inputs, target="inf2", stages=model.stages, **given
    )
    return prepared, model.example_inputs


def diffusers(pipeline: Any, example: dict[str, Any]) -> tuple[Prepared, dict[str, Any]]:
    # These are so small that estimates leave them on the CPU; without one they are Neuron's.
    return prepare(pipeline, example, target="inf2", backends=("neuron", "host")), example


def check(prepared: Prepared, example: dict[str, Any]) -> None:
    (entry,) = segment_report.document(prepared, example)
    print("\n".join(segment_report.lines([entry])))
    assert "" == entry["note"]
    assert entry["segments"]
    assert None is segment_report.failure_of([entry])
    assert all(segment["error"] <= 1e-4 for segment in entry["segments"])


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_bernini(size: str) -> None:
    check(*bernini(size))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stable_diffusion", "dit"])
def test_a_diffusers_pipeline(kind: str) -> None:
    pipeline, arguments = getattr(test_diffusers, kind)()
    check(*diffusers(pipeline, {**arguments, "output_type": "pt"}))
