"""A pipeline of three segments, built for two targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import partitioner
from partitioner.hostops import host_op
from partitioner.targets import Target

__all__ = ["EXAMPLE", "Pipeline", "build"]


@host_op(name="tests.engines.clipped", outputs={"out": ("float32", (1, 64))})
def clipped(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.clip(x, -1, 1)


class Pipeline(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor, *, steps: int = 2) -> torch.Tensor:
        x = clipped(torch.tanh(self.first(x)))["out"]
        for time in torch.linspace(1, 0, steps):
            x = x + time * torch.tanh(self.second(x))
        return clipped(x)["out"] * 2


EXAMPLE = {"x": torch.linspace(-1, 1, 64).reshape(1, 64)}


def build(targets: Sequence[Target | str], output: Path, **how: Any) -> str:
    """The digest of the bundle."""
    return partitioner.build(Pipeline(), EXAMPLE, target=targets, output=output, **how).digest
