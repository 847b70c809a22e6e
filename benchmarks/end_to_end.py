"""A bundle against its own segments run bare, and against the eager pipeline, in one run.

The Bernini example is built (or a bundle of it is given), then in turn, several times: the bundle
as a user calls it; every segment by a bare ONNX Runtime session on bound buffers, as often as the
plan calls it, and the host op by a bare call; the eager pipeline in torch. Medians, and ratios of
medians.

Run: python benchmarks/end_to_end.py --size base [--steps 5] [--bundle PATH] [--repeat 5] [--json F]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
import partitioner.hostops
from partitioner.artifacts.bundle import Bundle
from partitioner.modelfile import load_model
from partitioner.plan import Call, Loop, Step
from partitioner.runtime.cpus import usable_cpus

MODEL = ROOT / "examples" / "bernini" / "model.py"


def bare_segments(
    bundle: Bundle, pipe: partitioner.Pipeline, inputs: dict[str, Any]
) -> Callable[[], None]:
    """A function that runs each segment as often as the plan does, on inputs of the real run."""
    calls: dict[str, int] = {}
    _count(bundle.manifest.plan.steps, 1, calls)
    seen: dict[str, dict[str, Any]] = {}
    pipe(inputs, seed=7, observe=lambda name, k, outputs: seen.setdefault(name, dict(outputs)))
    runs: list[tuple[int, Callable[[], Any]]] = []
    for name, count in calls.items():
        info = bundle.manifest.plan.segments[name]
        if info.backend == "host":
            source = _source_of(bundle, seen, name)
            op = partitioner.hostops.resolve_host_op(bundle.manifest.artifacts[name].options["op"])
            runs.append((count, lambda op=op, source=source: op.run(source)))
            continue
        runs.append((count, _bare_session(bundle, name)))

    def run() -> None:
        for count, one in runs:
            for _ in range(count):
                one()

    return run


def _source_of(bundle: Bundle, seen: dict[str, dict[str, Any]], name: str) -> Any:
    """The array that a host segment is called with: the only output of that type."""
    (_, spec), *_ = bundle.manifest.plan.segments[name].inputs
    for outputs in seen.values():
        for array in outputs.values():
            if array.dtype.name == spec.dtype and array.shape == spec.shape:
                return array
    raise LookupError(name)


def _bare_session(bundle: Bundle, name: str) -> Callable[[], Any]:
    """A session with the runtime's own settings, run on bound buffers."""
    info = bundle.manifest.plan.segments[name]
    artifact = bundle.manifest.artifacts[name]
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(bundle.blobs_dir)
    )
    assert artifact.graph is not None
    model = bundle.blob_path(artifact.graph).read_bytes()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    generator = np.random.default_rng(0)
    for tensor, spec in info.inputs:
        array = generator.standard_normal(spec.shape).astype(spec.dtype)
        binding.bind_ortvalue_input(tensor, ort.OrtValue.ortvalue_from_numpy(array))
    for tensor, spec in info.outputs:
        array = np.empty(spec.shape, spec.dtype)
        binding.bind_ortvalue_output(tensor, ort.OrtValue.ortvalue_from_numpy(array))
    return lambda: session.run_with_iobinding(binding)


def _count(steps: tuple[Step, ...], times: int, calls: dict[str, int]) -> None:
    for step in steps:
        if isinstance(step, Call):
            calls[step.segment] = calls.get(step.segment, 0) + times
        elif isinstance(step, Loop):
            _count(step.body, times * step.trips, calls)


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", choices=["tiny", "base", "paper"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    model = load_model(str(MODEL), {"size": given.size, "steps": given.steps})
    with tempfile.TemporaryDirectory() as folder:
        path = given.bundle or Path(folder) / "bench.bundle"
        if given.bundle is None:
            partitioner.build(
                model.pipeline,
                model.example_inputs,
                inputs=model.inputs,
                options=model.options,
                output=path,
                parity=False,
            )
        bundle = Bundle.open(path)
        with partitioner.load(path) as pipe:
            inputs = {k: v.numpy() for k, v in model.example_inputs.items()}
            bare = bare_segments(bundle, pipe, inputs)
            model.pipeline.eval()

            @torch.no_grad()
            def eager() -> None:
                model.pipeline(**model.example_inputs, **model.options)

            ways = {"bundle": lambda: pipe(inputs, seed=7), "segments": bare, "eager": eager}
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                way()  # warm up
            for _ in range(given.repeat):
                for name, way in ways.items():
                    seconds[name].append(timed(way))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "size": given.size,
        "steps": given.steps,
        "repeat": given.repeat,
        "median_s": medians,
        "bundle_by_segments": medians["bundle"] / medians["segments"],
        "bundle_by_eager": medians["bundle"] / medians["eager"],
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
