"""Segments for the tests of the Neuron backend, and what compiles and loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.base import Compiled, CompileOptions
from partitioner.backends.execution import ArtifactFiles
from partitioner.backends.neuron.compile import NeuronCompiler
from partitioner.capture import capture
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.planning.plan import make_plan
from partitioner.planning.segments import Segment, run_segment
from partitioner.targets import find_target
from partitioner.weights import lay_out


class Attention(nn.Module):
    """Attention, a linear layer large enough to lie in a blob, a mask made in the graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).view(1, 6, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mask = torch.full((6, 6), -1e4, device=x.device).triu(1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).reshape(1, 6, 32)
        return x + self.out(mixed) * scale


def attention_inputs() -> dict[str, torch.Tensor]:
    return {
        "x": torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(3)),
        "scale": torch.tensor(0.5),
    }


@dataclass
class Files:
    """A segment's weights in blobs, and all that a compiler is given."""

    segment: Segment
    constants: Mapping[str, torch.Tensor]
    info: Any
    writer: BundleWriter
    layout: Any

    def compile(self, folder: Path, target: str = "inf2", **options: Any) -> Compiled:
        given = CompileOptions(folder, self.writer.blobs_dir, target=find_target(target), **options)
        return NeuronCompiler().compile(self.segment, self.constants, self.layout, given)

    def artifact(self, made: Compiled) -> ArtifactFiles:
        weights = tuple(self.writer.blob_path(w) for w in made.weights)
        return ArtifactFiles(made.graph, self.writer.blobs_dir, weights, made.options, self.info)

    def expected(self, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        given = [torch.from_numpy(np.array(a)) for a in arrays]
        with torch.no_grad():
            return [t.numpy() for t in run_segment(self.segment, self.constants, given)]

    def inputs(self) -> list[np.ndarray[Any, Any]]:
        """Arrays for the segment's inputs, in their order."""
        generator = np.random.default_rng(0)
        return [
            np.asarray(generator.standard_normal(spec.shape)).astype(spec.dtype)
            for _, spec in self.info.inputs
        ]


def segment_files(
    folder: Path, module: nn.Module | None = None, inputs: dict[str, Any] | None = None
) -> Files:
    """The one segment of a module, for inf2."""
    found = inputs or attention_inputs()

    program = capture((module or Attention()).eval(), found).program
    program, _ = run_pipeline(program, parse_pipeline(DEFAULT))
    planned = make_plan(program, find_target("inf2"), {"neuron": NeuronCompiler()})
    ((name, segment),) = planned.segments.items()
    writer = BundleWriter(folder / "bundle")
    writer.__enter__()
    outside = NeuronCompiler().outside(segment, program.constants)
    layout = lay_out(program.constants, outside, writer)
    info = planned.plan.segments[name]
    return Files(segment, program.constants, info, writer, layout)
