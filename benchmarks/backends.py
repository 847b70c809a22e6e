"""Each segment of a pipeline by ONNX Runtime and by OpenVINO, in turn, on the same inputs.

Two bundles are built of each pipeline, one for each backend (or given); then every segment that has
the same inputs in both is run on bound buffers, in turn. Medians and their ratio: below 1 OpenVINO
is faster. What stands in docs/openvino.md about defaults was measured with this.

Names are bernini-tiny, bernini-base, stable_diffusion, dit.

Run: python benchmarks/backends.py [--model NAME] [--repeat 15]
     python benchmarks/backends.py --bundles ONNX OPENVINO
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.backends import find_backend
from partitioner.backends.execution import ArtifactFiles, BoundCall, DeviceOptions

BACKENDS = ("onnx", "openvino")


def built(name: str, folder: Path) -> list[Path]:
    """The bundles of a pipeline, one for each backend."""
    paths: list[Path] = []
    for backend in BACKENDS:
        paths.append(folder / f"{name}.{backend}")
        arguments = pipeline(name)
        partitioner.build(
            *arguments.pop("args"),
            **arguments,
            backends=[backend, "host"],
            output=paths[-1],
            parity=False,
        )
    return paths


def pipeline(name: str) -> dict[str, Any]:
    """What a build takes."""
    kind, _, size = name.partition("-")
    if kind == "bernini":
        from partitioner.modelfile import load_model

        model = load_model(
            str(ROOT / "examples" / "bernini" / "model.py"), {"size": size, "steps": 5}
        )
        return {
            "args": (model.pipeline, model.example_inputs),
            "inputs": model.inputs,
            "options": model.options,
        }
    from tests import test_diffusers as suite

    made, arguments = getattr(suite, name)()
    return {"args": (made, {**arguments, "output_type": "pt"})}


def calls(path: Path) -> dict[str, BoundCall]:
    """A bound call of each compiled segment, on random numbers."""
    bundle = Bundle.open(path, "once")
    found: dict[str, BoundCall] = {}
    for name, artifact in bundle.manifest.artifacts.items():
        info = bundle.manifest.plan.segments[name]
        if artifact.backend == "host":
            continue
        files = ArtifactFiles(
            bundle.blob_path(artifact.graph) if artifact.graph else None,
            bundle.blobs_dir,
            tuple(bundle.blob_path(digest) for digest in artifact.weights),
            artifact.options,
            info,
        )
        executable = find_backend(artifact.backend).make_executor().load(files, DeviceOptions())
        call, generator = executable.bind(), np.random.default_rng(0)
        for index, (_, spec) in enumerate(info.inputs):
            array = generator.standard_normal(spec.shape).astype(spec.dtype)
            call.set_input(index, array)
        for index, (_, spec) in enumerate(info.outputs):
            call.set_output(index, np.empty(spec.shape, spec.dtype))
        found[name] = call
    return found


def timed_in_turn(sides: Sequence[BoundCall], repeat: int) -> list[list[float]]:
    """Seconds of each call, all of them in turn; the first two turns warm up."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(repeat + 2):
        for side, own in zip(sides, times, strict=True):
            start = time.perf_counter()
            side.run()
            if turn >= 2:
                own.append(time.perf_counter() - start)
    return times


def measured(paths: list[Path], repeat: int) -> dict[str, Any]:
    """Median milliseconds of each segment by backend."""
    sides = [calls(path) for path in paths]
    rows: dict[str, Any] = {}
    for name in sides[0].keys() & sides[1].keys():
        times = timed_in_turn([side[name] for side in sides], repeat)
        first, second = (statistics.median(own) * 1e3 for own in times)
        rows[name] = {"onnx, ms": first, "openvino, ms": second, "ratio": second / first}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--bundles", nargs=2, type=Path)
    parser.add_argument("--repeat", type=int, default=15)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if given.bundles:
            results["bundles"] = measured(given.bundles, given.repeat)
        else:
            for name in given.model or ["bernini-tiny", "bernini-base"]:
                results[name] = measured(built(name, Path(folder)), given.repeat)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
