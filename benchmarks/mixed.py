"""Plans that run ONNX Runtime and OpenVINO in turn: what ONNX Runtime's threads do between calls.

A bundle is built in which the blocks of the denoiser go to either backend in turn, so that every
step of the loop changes sides several times. For each way in which ONNX Runtime's pool may
wait for work there is a process that has loaded it; all are run in turn, with a rest between, since
threads that spin do so for a while. Medians, and their ratios to the pool as it comes.

Run: python benchmarks/mixed.py [--size tiny] [--repeat 15] [--bundle PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.backends.onnx import execute
from partitioner.backends.onnx.pool import apply_pool
from partitioner.runtime.cpus import usable_cpus

BLOCKS = {"tiny": 2, "base": 12}

#: Longer than threads of either library spin.
REST_S = 0.05

Pool = Callable[[Any, Any, int | None, bool], int]


def built(size: str, path: Path) -> Path:
    """The bundle whose denoiser alternates."""
    # Not above: processes that serve need no torch.
    from partitioner.modelfile import load_model
    from partitioner.planning.overrides import Overrides

    model = load_model(str(ROOT / "examples" / "bernini" / "model.py"), {"size": size, "steps": 5})
    turns = {f"denoiser.blocks.{i}": ("onnx", "openvino")[i % 2] for i in range(BLOCKS[size])}
    partitioner.build(
        model.pipeline,
        model.example_inputs,
        inputs=model.inputs,
        options=model.options,
        backends=["onnx", "openvino", "host"],
        overrides=Overrides(turns, {}),
        output=path,
        parity=False,
    )
    return path


def shared(**entries: str) -> Pool:
    """One pool of the process, as segments of one backend have it."""

    def apply(ort: Any, options: Any, threads: int | None, mixed: bool) -> int:
        for key, value in entries.items():
            options.add_session_config_entry(f"session.{key}", value)
        return apply_pool(ort, options, threads, mixed=False)

    return apply


def of_session(**entries: str) -> Pool:
    """A pool for each session."""

    def apply(ort: Any, options: Any, threads: int | None, mixed: bool) -> int:
        options.intra_op_num_threads = threads or usable_cpus()
        options.inter_op_num_threads = 1
        for key, value in entries.items():
            options.add_session_config_entry(f"session.intra_op.{key}", value)
        return threads or usable_cpus()

    return apply


#: The first is what the others are compared with.
POOLS: dict[str, Pool] = {
    "shared pool, spinning as it comes": shared(),
    "shared pool, spinning ends with each call": shared(force_spinning_stop="1"),
    "own pools, spinning as it comes": of_session(),
    "own pools, spinning for 50 us": of_session(spin_duration_us="50"),
    "own pools, spinning for 500 us": of_session(spin_duration_us="500"),
    "own pools, no spinning": of_session(allow_spinning="0"),
}


def serve(path: Path, pool: str) -> None:
    """Load a bundle with this pool; for each line that comes in, run it and print the seconds."""
    image = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    with mock.patch.object(execute, "apply_pool", POOLS[pool]):
        pipe = partitioner.load(path)
    pipe(image=image, seed=0)
    for _ in sys.stdin:
        start = time.perf_counter()
        pipe(image=image, seed=0)
        print(time.perf_counter() - start, flush=True)


def measured(path: Path, repeat: int) -> dict[str, Any]:
    """Milliseconds of a request by pool, and the medians of ratios to the first, turn by turn."""
    here = [sys.executable, __file__, "--bundle", str(path), "--serve"]
    served = {
        name: subprocess.Popen([*here, name], stdin=PIPE, stdout=PIPE, text=True) for name in POOLS
    }
    times: dict[str, list[float]] = {name: [] for name in POOLS}
    for turn in range(repeat + 2):
        for name, process in served.items():
            assert process.stdin is not None
            assert process.stdout is not None
            time.sleep(REST_S)
            process.stdin.write("\n")
            process.stdin.flush()
            seconds = float(process.stdout.readline())
            if turn >= 2:
                times[name].append(seconds)
    for process in served.values():
        process.communicate()
    first = next(iter(times.values()))
    return {
        name: {
            "median, ms": statistics.median(own) * 1e3,
            "ratio": statistics.median(a / b for a, b in zip(own, first, strict=True)),
        }
        for name, own in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(BLOCKS), default="tiny")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--serve", choices=POOLS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.bundle, given.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.bundle or built(given.size, Path(folder) / "bundle")
        plan = Bundle.open(path).manifest.plan
        backends = [info.backend for info in plan.segments.values()]
        results = measured(path, given.repeat)
    print(json.dumps({"segments": backends, **results}, indent=2))


if __name__ == "__main__":
    main()
