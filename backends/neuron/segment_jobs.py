"""What the worker does for the check of a segment: lower it, and run what came of that.

What is lowered is the module that the tracer would be given, with its casts at the border.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.graphs import from_json
from partitioner.backends.neuron.hlo_check import check_program
from partitioner.backends.neuron.iree_run import compile_module, run_module
from partitioner.backends.neuron.module import make_traceable
from partitioner.backends.neuron.stablehlo import lower, read_instructions
from partitioner.program import TensorType
from partitioner.weights import MappedBlobs

__all__ = ["lower_segment", "run_segment"]


def lower_segment(directory: Path) -> dict[str, Any]:
    """The job: ``job.json`` in, ``module.mlir`` and ``lowered.pt`` out.

    Returns:
        the report of the check as plain data.

    Raises:
        CompileError: an op is not lowered, or a type cannot cross the border.
    """
    job = json.loads((directory / "job.json").read_text())
    graph, small, lifted = from_json(job["graph"])
    weights = {name: type_.empty() for name, type_ in lifted.items()}
    traceable = make_traceable(graph, {**small, **weights})
    sources = [str(n.meta.get("source", "")) for n in graph.nodes]
    buffers = dict(traceable.module.named_buffers())
    types = {name: TensorType.of(tensor) for name, tensor in buffers.items()}
    module, core = lower(graph, types)

    def source_of(place: int | str | None) -> str:
        return sources[place] if isinstance(place, int) else str(place or "")

    report = check_program(read_instructions(module), source_of, job["limit"])
    (directory / "module.mlir").write_text(module.operation.get_asm(enable_debug_info=False))
    made = {name: buffers[name] for name in core.constants if name not in traceable.constants}
    lowered = {
        "arguments": [[one.input, one.dtype, list(one.shape)] for one in traceable.arguments],
        "results": [[one.output, one.input] for one in traceable.results],
        # By the name of a constant, or a tensor.
        "constants": [made.get(name, traceable.constants.get(name)) for name in core.constants],
        "folded": list(core.folded),
    }
    torch.save(lowered, directory / "lowered.pt")
    return {"report": asdict(report)}


def run_segment(directory: Path) -> int:
    """The job: what :func:`lower_segment` left and ``inputs.npz`` in, ``results.npz`` out.

    Gives the number of results, which are called by their place.

    Raises:
        CompileError: IREE does not compile it, or not run it.
    """
    job = json.loads((directory / "job.json").read_text())
    graph, small, lifted = from_json(job["graph"])
    run = json.loads((directory / "run.json").read_text())
    with np.load(directory / "inputs.npz", allow_pickle=False) as file:
        inputs = [torch.from_numpy(file[str(index)]) for index in range(len(file.files))]
    blobs = MappedBlobs(lambda digest: Path(run["blobs_dir"]) / digest)
    weights = {
        name: blobs.tensor(ConstantRef(*place), lifted[name].empty())
        for name, place in run["weights"].items()
    }
    constants = {**small, **weights}
    # Not NumPy's format, which has no bfloat16. The file is of the job before this one, and with
    # ``weights_only`` nothing in it is run.
    lowered = torch.load(directory / "lowered.pt", weights_only=True)
    program = compile_module((directory / "module.mlir").read_text())
    arguments = [
        *(inputs[i].to(getattr(torch, dtype)).reshape(s) for i, dtype, s in lowered["arguments"]),
        *(constants[one] if isinstance(one, str) else one for one in lowered["constants"]),
        *lowered["folded"],
    ]
    made = run_module(program, arguments)
    types = [node.meta["type"] for node in cast("Any", graph.output_node().args[0])]
    results = [
        inputs[given] if output is None else made[output].reshape(type_.shape).to(type_.dtype)
        for (output, given), type_ in zip(lowered["results"], types, strict=True)
    ]
    np.savez(
        directory / "results.npz",
        allow_pickle=False,
        **{
            str(i): tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
            for i, tensor in enumerate(results)
        },
    )
    return len(results)
