"""A small pipeline with a loop, and what a build of it leaves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

__all__ = ["EXAMPLE", "Denoiser", "Pipeline", "left_over"]


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(16, 64)
        self.outer = nn.Linear(64, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        time = torch.sin(t.float() / 1000)
        return self.outer(nn.functional.gelu(self.inner(self.norm(x) + cond + time)))


class Pipeline(nn.Module):
    """A condition, a loop with noise, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(8, 16)
        self.denoiser = Denoiser()
        self.decoder = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 3))

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, torch.Tensor]:
        cond = self.encoder(image)
        x = torch.randn(2, 16)
        for i, t in enumerate(torch.linspace(999, 0, steps)):
            x = 0.5 * x + 0.3 * self.denoiser(x, t, cond) + 0.1 / (i + 1) * torch.randn_like(x)
        return {"picture": self.decoder(x), "latent": x}


EXAMPLE = {"image": torch.linspace(-1, 1, 16).reshape(2, 8)}


def left_over(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
