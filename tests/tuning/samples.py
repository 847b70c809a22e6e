"""A small pipeline of two stages and a loop, planned for the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from partitioner.frontend import prepare
from partitioner.prepared import Prepared

__all__ = ["TwoStages", "prepared"]


class TwoStages(nn.Module):
    """An encoder, two steps of a denoiser, and glue."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        self.decoder = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(x)
        return self.decoder(hidden * 2 + x).softmax(-1)


def prepared(**options: Any) -> Prepared:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    return prepare(TwoStages().eval(), {"x": x}, **options)
