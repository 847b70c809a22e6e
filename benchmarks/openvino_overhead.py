"""What the runtime adds to OpenVINO, and what the host's cache saves.

Run: python benchmarks/openvino_overhead.py [--bundle PATH]

- A loop of many small steps in a bundle, against the same request's ``infer()`` with tensors set.
- Seconds from ``partitioner.load`` to loaded, with an empty cache and with a warm one, each in a
  process of its own; of the bundle given, or of a small one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner

STEPS = 1000

LOADING = """
import sys, time
import partitioner.runtime
from partitioner.backends.openvino.library import core
core().available_devices
start = time.perf_counter()
pipe = partitioner.runtime.load(sys.argv[1], verify="never")
print(time.perf_counter() - start)
"""


class Loop(nn.Module):
    """A small product a step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
        for _ in range(steps):
            x = self.step(x)
        return x


def built(folder: Path) -> Path:
    partitioner.build(
        Loop().eval(),
        {"x": torch.randn(1, 8)},
        backends=["openvino", "host"],
        output=folder / "loop",
        parity=False,
    )
    return folder / "loop"


def calls(path: Path) -> dict[str, float]:
    """Microseconds a step takes, bare and in the pipeline; medians of turns."""
    pipe = partitioner.load(path)
    x = np.zeros((1, 8), np.float32)
    (executable,) = {id(e): e for e in pipe._executables.values()}.values()
    call: Any = executable.bind()
    for index, (_, spec) in enumerate(executable.inputs):
        call.set_input(index, np.zeros(spec.shape, spec.dtype))
    for index, (_, spec) in enumerate(executable.outputs):
        call.set_output(index, np.zeros(spec.shape, spec.dtype))
    infer = call._request.infer
    times: list[list[float]] = [[], []]
    for _ in range(15):
        start = time.perf_counter()
        for _ in range(STEPS):
            infer(share_outputs=True)
        middle = time.perf_counter()
        pipe(x=x, seed=0)
        times[0].append(middle - start)
        times[1].append(time.perf_counter() - middle)
    bare, step = (statistics.median(own) / STEPS * 1e6 for own in times)
    return {"infer, us": bare, "step of a loop, us": step, "added, us": step - bare}


def loading(path: Path, folder: Path) -> dict[str, float]:
    """Seconds to load with an empty and with a warm cache; medians of three."""
    times: dict[str, list[float]] = {"empty cache, s": [], "warm cache, s": []}
    for turn in range(3):
        environment = {**os.environ, "PARTITIONER_CACHE": str(folder / f"cache{turn}")}
        for own in times.values():
            command = [sys.executable, "-c", LOADING, str(path)]
            own.append(float(subprocess.check_output(command, env=environment)))
    return {name: statistics.median(own) for name, own in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small = built(folder)
        results = {"calls": calls(small), "loading": loading(given.bundle or small, folder)}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
