"""What the worker does for the check of a segment: lower it, and run what came of that."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.graphs import from_json
from partitioner.backends.neuron.hlo_check import check_program
from partitioner.backends.neuron.iree_run import compile_module, run_module
from partitioner.backends.neuron.stablehlo import lower, read_instructions
from partitioner.program import TensorType
from partitioner.weights import MappedBlobs

__all__ = ["lower_segment", "run_segment"]


def lower_segment(directory: Path) -> dict[str, Any]:
    """The job: ``job.json`` in, ``module.mlir`` and ``folded.pt`` out.

    Returns:
        the report of the check as plain data, and which constants are arguments.

    Raises:
        CompileError: an op is not lowered.
    """
    job = json.loads((directory / "job.json").read_text())
    graph, small, lifted = from_json(job["graph"])
    sources = [str(n.meta.get("source", "")) for n in graph.nodes]
    types = {**lifted, **{name: TensorType.of(tensor) for name, tensor in small.items()}}
    module, core = lower(graph, types)

    def source_of(place: int | str | None) -> str:
        return sources[place] if isinstance(place, int) else str(place or "")

    report = check_program(read_instructions(module), source_of, job["limit"])
    (directory / "module.mlir").write_text(module.operation.get_asm(enable_debug_info=False))
    torch.save(list(core.folded), directory / "folded.pt")
    return {"report": asdict(report), "constants": list(core.constants)}


def run_segment(directory: Path) -> int:
    """The job: what :func:`lower_segment` left and ``inputs.npz`` in, ``results.npz`` out.

    Gives the number of results, which are called by their place.

    Raises:
        CompileError: IREE does not compile it, or not run it.
    """
    job = json.loads((directory / "job.json").read_text())
    _, small, lifted = from_json(job["graph"])
    run = json.loads((directory / "run.json").read_text())
    with np.load(directory / "inputs.npz", allow_pickle=False) as file:
        inputs = [torch.from_numpy(file[str(index)]) for index in range(len(file.files))]
    blobs = MappedBlobs(lambda digest: Path(run["blobs_dir"]) / digest)
    weights = {
        name: blobs.tensor(ConstantRef(*place), lifted[name].empty())
        for name, place in run["weights"].items()
    }
    constants = {**small, **weights}
    folded = torch.load(directory / "folded.pt", weights_only=True)
    program = compile_module((directory / "module.mlir").read_text())
    arguments = [*inputs, *(constants[name] for name in run["constants"]), *folded]
    results = run_module(program, arguments)
    np.savez(
        directory / "results.npz",
        allow_pickle=False,
        **{
            str(i): tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
            for i, tensor in enumerate(results)
        },
    )
    return len(results)
