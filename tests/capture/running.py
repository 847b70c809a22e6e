"""Run a captured program and the eager pipeline on the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from partitioner.capture import Captured, capture
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.interpreter import run_program

__all__ = ["both", "largest_error"]


def both(
    pipeline: Any, example: Mapping[str, Any], **options: Any
) -> tuple[Captured, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Capture, then (captured, eager outputs, program outputs) on other inputs and fresh noise."""
    stages = options.pop("stages", None)
    captured = capture(pipeline, example, options=options, stages=stages)
    torch.manual_seed(11)
    types = {n.target: n.meta["type"] for n in captured.program.main.nodes if n.op == "placeholder"}
    drawn = {d.placeholder for s in captured.program.draws for d in s.draws}
    noise = {name: _numbers(types[name]) for name in sorted(drawn)}
    tensors: dict[str, torch.Tensor] = {}
    for spec in captured.program.inputs:
        dtype = getattr(torch, spec.tensor.dtype)
        tensors[spec.name] = (
            torch.randn(spec.tensor.shape, dtype=dtype)
            if dtype.is_floating_point
            else torch.randint(0, 4, spec.tensor.shape, dtype=dtype)
        )
    arrays = {name: value.numpy() for name, value in noise.items()}
    eager = run_eager(
        pipeline,
        example,
        options=options,
        values={name: value.numpy() for name, value in tensors.items()},
        drawn=drawn_in_order(captured.program.draws, arrays),
    )
    used = {spec.name: tensors[spec.name] for spec in captured.program.inputs if spec.used}
    program = run_program(captured.program, {**used, **noise})
    return captured, {k: torch.from_numpy(v) for k, v in eager.items()}, program


def largest_error(
    expected: Mapping[str, torch.Tensor], actual: Mapping[str, torch.Tensor]
) -> float:
    """The largest relative error over all outputs, which must have the same names and types."""
    assert list(expected) == list(actual)
    worst = 0.0
    for name, value in expected.items():
        assert (value.shape, value.dtype) == (actual[name].shape, actual[name].dtype)
        scale = value.double().norm().item() or 1.0
        worst = max(worst, (value.double() - actual[name].double()).norm().item() / scale)
    return worst


def _numbers(type_: Any) -> torch.Tensor:
    if type_.dtype.is_floating_point:
        return torch.randn(type_.shape, dtype=type_.dtype)
    return torch.randint(0, 3, type_.shape, dtype=type_.dtype)
