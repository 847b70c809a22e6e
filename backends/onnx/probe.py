"""Asks ``torch.onnx`` and ONNX Runtime whether they take an op. Runs in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx

from partitioner.backends.onnx import compile as onnx_compile

if TYPE_CHECKING:
    from partitioner.backends.probing import Results

__all__ = ["attempt"]


def attempt(graph: fx.Graph, constants: Mapping[str, torch.Tensor], results: Results) -> None:
    """Export a graph of one op as a segment is exported, and have ONNX Runtime load it.

    Raises:
        CompileError: the exporter or the runtime refuses it.
    """
    inputs = [str(n.target) for n in graph.nodes if n.op == "placeholder"]
    model = onnx_compile.export_alone(graph, constants, inputs, list(results))
    onnx_compile.check_loads(model.SerializeToString(), Path())
