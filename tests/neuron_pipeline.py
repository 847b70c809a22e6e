"""A small pipeline whose parts are worth a call of an accelerator each."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["EXAMPLE", "Pipeline"]

EXAMPLE = {"image": torch.linspace(-1, 1, 128).reshape(2, 64)}


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 1024), nn.GELU(), nn.Linear(1024, outputs))


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(256, 256)
        self.norm = nn.LayerNorm(256)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return self.inner(self.norm(x) + cond + torch.sin(t.float() / 1000))


class Pipeline(nn.Module):
    """A condition, a loop with noise, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = mlp(64, 256)
        self.denoiser = Denoiser()
        self.decoder = mlp(256, 64)

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, torch.Tensor]:
        cond = self.encoder(image)
        x = torch.randn(2, 256)
        for i, t in enumerate(torch.linspace(999, 0, steps)):
            x = 0.5 * x + 0.3 * self.denoiser(x, t, cond) + 0.1 / (i + 1) * torch.randn_like(x)
        return {"picture": self.decoder(x), "latent": x}
