"""Whether relieving loops ever makes a diffusers pipeline slower: those of the test suite, small.

Each pipeline is built twice, with the passes that relieve loops and without; both bundles are run
in turn, in an order that changes, on one thread (these models are so small that two only wait for
one another). Medians of whole requests, and their ratio.

Run: python benchmarks/diffusers_passes.py [--repeat 60] [--steps 10] [--only NAME] [--json FILE]
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

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from hoisting import WITHOUT

import partitioner
from partitioner.passes.pipeline import DEFAULT
from tests import test_diffusers as suite


def cases(steps: int) -> dict[str, Callable[[], tuple[Any, dict[str, Any], dict[str, Any]]]]:
    """Name -> what makes a pipeline, its examples and its options."""

    def whole(make: Any) -> Any:
        def case() -> Any:
            pipeline, arguments = make()
            return pipeline, {**arguments, "output_type": "pt"}, {}

        return case

    def sampled(kind: str, sampler: str) -> Any:
        return lambda: (*suite.latent_pipeline(kind, sampler), {"steps": steps})

    found: dict[str, Any] = {
        make.__name__: whole(make)
        for make in (suite.stable_diffusion, suite.dit, suite.pixart, suite.stable_diffusion_3)
    }
    for sampler in suite.TRIPS:
        kind = "dit" if sampler.startswith("FlowMatch") else "unet"
        found[f"{kind} {sampler}"] = sampled(kind, sampler)
    return found


def measure(case: Any, repeat: int) -> dict[str, float]:
    """Median seconds with and without, and their ratio."""
    pipeline, example, options = case()
    tensors = {k: v.numpy() for k, v in example.items() if isinstance(v, torch.Tensor)}
    with tempfile.TemporaryDirectory() as folder:
        pipes: dict[str, partitioner.Pipeline] = {}
        for name, passes in (("without", WITHOUT), ("with", DEFAULT)):
            # Parity would load the bundle, and the first that is loaded decides on the threads.
            built = partitioner.build(
                pipeline,
                example,
                options=options,
                passes=passes,
                output=f"{folder}/{name}",
                parity=False,
            )
            pipes[name] = partitioner.load(built.path, threads=1)
        for pipe in pipes.values():
            for _ in range(3):
                pipe(tensors, seed=1)
        seconds: dict[str, list[float]] = {name: [] for name in pipes}
        for index in range(repeat):
            for name in sorted(pipes, reverse=bool(index % 2)):
                start = time.perf_counter()
                pipes[name](tensors, seed=1)
                seconds[name].append(time.perf_counter() - start)
        for pipe in pipes.values():
            pipe.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "ratio": medians["with"] / medians["without"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    for name, case in cases(given.steps).items():
        if given.only not in name:
            continue
        result[name] = measure(case, given.repeat)
        row = result[name]
        print(
            f"{name:45} {row['without'] * 1e3:8.2f} ms {row['with'] * 1e3:8.2f} ms "
            f"{row['ratio']:.3f}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
