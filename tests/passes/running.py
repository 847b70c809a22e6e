"""Capturing small pipelines, running passes on them, and comparing what they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from partitioner.capture import capture
from partitioner.interpreter import run_program
from partitioner.passes.ops import op_name
from partitioner.passes.pipeline import PassRecord, parse_pipeline, run_pipeline
from partitioner.program import Program

__all__ = ["after", "body_of", "captured", "difference", "names", "values_of"]


def captured(pipeline: Any, **inputs: Any) -> Program:
    """The program of a pipeline; inputs that are no tensors are options."""
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    options = {name: value for name, value in inputs.items() if name not in tensors}
    return capture(pipeline, tensors, options=options).program


def after(program: Program, passes: str) -> tuple[Program, list[PassRecord]]:
    return run_pipeline(program, parse_pipeline(passes))


def values_of(program: Program) -> dict[str, torch.Tensor]:
    """Made-up values for all placeholders of the main graph; equal for equal names."""
    values: dict[str, torch.Tensor] = {}
    for node in program.main.nodes:
        if node.op == "placeholder":
            seed = sum(map(ord, node.target))
            type_ = node.meta["type"]
            generator = torch.Generator().manual_seed(seed)
            values[node.target] = torch.randn(type_.shape, generator=generator).to(type_.dtype)
    return values


def difference(one: Program, other: Program) -> float:
    """The largest relative difference of outputs, on made-up inputs."""
    given = values_of(one)
    expected = run_program(one, given)
    actual = run_program(other, {name: given[name] for name in values_of(other)})
    worst = 0.0
    for name, tensor in expected.items():
        assert tensor.shape == actual[name].shape
        scale = max(float(tensor.double().norm()), 1e-30)
        worst = max(worst, float((tensor.double() - actual[name].double()).norm()) / scale)
    return worst


def names(graph: fx.Graph) -> list[str]:
    """The ops of a graph, by name."""
    return [op_name(node) for node in graph.nodes if op_name(node)]


def body_of(program: Program) -> fx.Graph:
    """The body of a program's only loop."""
    (body,) = program.graphs.values()
    return body
