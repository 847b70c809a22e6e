"""A small guided diffusion pipeline in which every kind of dependence occurs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WIDTH", "Guided", "Plain"]

WIDTH = 64


class Block(nn.Module):
    """Shapes: x (B, N, W), time (1, W), context (B, M, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Linear(WIDTH, 2 * WIDTH)
        self.key_value = nn.Linear(WIDTH, 2 * WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mixed: Tensor, context: Tensor) -> Tensor:
        shift, scale = self.modulation(F.silu(mixed)).unsqueeze(1).chunk(2, dim=-1)
        h = self.norm(x) * (1 + scale) + shift
        key, value = self.key_value(context).chunk(2, dim=-1)
        return x + self.out(F.scaled_dot_product_attention(self.query(h), key, value))


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.time = nn.Sequential(nn.Linear(4, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.pooled = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(2)])

    def forward(self, x: Tensor, step: Tensor, context: Tensor) -> Tensor:
        x = self.first(x)
        time = self.time(torch.cat([step.cos(), step.sin(), step, step * step])[None])
        mixed = time + self.pooled(context).mean(dim=1)
        for block in self.blocks:
            x = block(x, mixed, context)
        return x


class Guided(nn.Module):
    """Guidance by a batch of two; the unconditional context is constant. Of any number of rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(WIDTH, WIDTH)
        self.denoiser = Denoiser().eval()

    def forward(self, condition: Tensor, *, steps: int = 4, scale: float = 2.0) -> Tensor:
        context = self.encoder(condition)
        contexts = torch.cat([context, torch.zeros_like(context)])
        x = torch.randn(condition.shape[0], 6, WIDTH)
        for time in torch.linspace(1.0, 0.0, steps):
            guided, free = self.denoiser(torch.cat([x, x]), time[None], contexts).chunk(2)
            x = x + 0.1 * (free + scale * (guided - free)) + (0.1 * time) * torch.randn_like(x)
        return x


class Plain(nn.Module):
    """Without guidance."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.denoiser = Denoiser().eval()

    def forward(self, condition: Tensor, *, steps: int = 4) -> Tensor:
        x = torch.randn(1, 6, WIDTH)
        for time in torch.linspace(1.0, 0.0, steps):
            x = x + 0.1 * self.denoiser(x, time[None], condition)
        return x
