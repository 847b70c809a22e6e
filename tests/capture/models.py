"""Small pipelines with a loop whose body is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["CONDITION", "Looping", "Net", "trips"]


class Net(nn.Module):
    """A denoiser: x and t and a condition in, x out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 8)
        self.time = nn.Linear(1, 8)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        time = self.time(t.float().reshape(-1, 1) / 1000)
        return torch.tanh(self.body(x) + time + cond + self.shift)


class Looping(nn.Module):
    """A pipeline whose loop's body is given."""

    def __init__(self, step: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.net = Net()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, cond: torch.Tensor, *, steps: int = 6) -> torch.Tensor:
        x = torch.randn(2, 8)
        for i, t in enumerate(torch.linspace(999, 0, steps).long()):
            x = self.step(self, x, t, cond, i)
        return x


def trips(captured: Any) -> list[int]:
    return [loop.trips for loop in captured.loops]


CONDITION = {"cond": torch.ones(2, 8)}
