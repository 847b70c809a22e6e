"""The Bernini example's tail, written naively, with and without the passes that see through it.

The naive tail unpacks the wavelet's bands by index tensors that are built at run time, and
synthesises all three levels by transposed convolutions along one axis after the other, the finest
level with seven bands of zeros. Built with the passes for such forms off and on; both bundles are
run in turn, medians. Both are compared with the example's own tail, in torch.

Run: python benchmarks/tail.py [--size base] [--repeat 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import partitioner
from bernini.config import SIZES
from bernini.wavelet import HIGH_PASS, LOW_PASS, InverseWavelet
from partitioner.passes.pipeline import DEFAULT

#: Passes that find cheaper forms; off, they are what this benchmark is about.
FORMS = ("rewrite-gathers", "fold-zeros", "unroll-filters", "cancel-differences")


class NaiveWavelet(nn.Module):
    """As the papers put it: gather by index, filter every band, whatever is in it.

    Shapes: (1, 64, low, low, low) -> (resolution, resolution, resolution).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low_pass", torch.tensor(LOW_PASS))
        self.register_buffer("high_pass", torch.tensor(HIGH_PASS))

    def forward(self, packed: Tensor) -> Tensor:
        low, coarse, fine = self.unpack(packed[0])
        low = self.synthesise(low, coarse)
        low = self.synthesise(low, fine)
        finest = torch.zeros(7, *low.shape)
        return self.synthesise(low, finest)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The bands of three levels, gathered channel by channel and voxel by voxel."""
        side = packed.shape[-1]
        places = torch.arange(8, 2 * side - 8)
        band, x, y, z = torch.meshgrid(torch.arange(7), places, places, places, indexing="ij")
        channel = 1 + ((x % 2 * 7 + band) * 2 + y % 2) * 2 + z % 2
        return packed[0], packed[57:], packed[channel, x // 2, y // 2, z // 2]

    def synthesise(self, low: Tensor, high: Tensor) -> Tensor:
        """One level: (n, n, n) and (7, n, n, n) -> (2n - 16, 2n - 16, 2n - 16)."""
        bands = torch.cat([low[None], high])
        for axis in (4, 3, 2):
            pairs = bands[:, None]
            bands = (
                self.filter(pairs[0::2], self.low_pass, axis)
                + self.filter(pairs[1::2], self.high_pass, axis)
            )[:, 0]
        return bands[0]

    def filter(self, x: Tensor, taps: Tensor, axis: int) -> Tensor:
        """Put zeros between samples, filter, and crop, along one axis of (bands, 1, x, y, z)."""
        shape, stride, padding = [1] * 5, [1] * 3, [0] * 3
        shape[axis], stride[axis - 2], padding[axis - 2] = len(taps), 2, 16
        return F.conv_transpose3d(x, taps.reshape(shape), stride=stride, padding=padding)


class Tail(nn.Module):
    """The naive tail as the one stage of a pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.wavelet = NaiveWavelet()

    def forward(self, packed: Tensor) -> Tensor:
        return self.wavelet(packed)


def without_forms(passes: str) -> str:
    """The pipeline of passes without those that find cheaper forms."""
    return ",".join(name for name in passes.split(",") if name not in FORMS)


def timed(pipe: partitioner.Pipeline, packed: Any) -> float:
    start = time.perf_counter()
    pipe(packed=packed)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", choices=list(SIZES))
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--passes", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    low = SIZES[given.size].low
    packed = torch.randn(1, 64, low, low, low, generator=torch.Generator().manual_seed(0))
    expected = InverseWavelet(low)(packed).numpy()
    seconds: dict[str, list[float]] = {"naive": [], "rewritten": []}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        pipes: dict[str, partitioner.Pipeline] = {}
        for name, passes in (("naive", without_forms(given.passes)), ("rewritten", given.passes)):
            built = partitioner.build(
                Tail(),
                {"packed": packed},
                passes=passes,
                output=Path(folder) / f"{name}.bundle",
            )
            pipes[name] = partitioner.load(built.path)
            (actual,) = pipes[name](packed=packed.numpy()).values()
            errors[name] = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
        for _ in range(given.repeat):
            for name, pipe in pipes.items():
                seconds[name].append(timed(pipe, packed.numpy()))
        for pipe in pipes.values():
            pipe.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "size": given.size,
        "median_s": medians,
        "rewritten_by_naive": medians["rewritten"] / medians["naive"],
        "error_against_the_example": errors,
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
