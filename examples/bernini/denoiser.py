"""The denoiser: a transformer between convolutions that predicts the clean latent grid.

What each part depends on matters to the compiler: ``time`` on the step only, the context layers
and the cross-attention's keys and values on the condition only, the modulation of the blocks on
both, and only the rest on the noisy grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import LATENT_CHANNELS, REGISTERS, Config
from .layers import MLP, CrossAttention, SelfAttention, group_norm

__all__ = ["Denoiser"]

_TIME_WIDTH = 256


class Denoiser(nn.Module):
    """Predicts the clean grid from a noisy one, its timestep and a context.

    Shapes: x (B, 4, n, n, n), timestep (1,), context (B, tokens, C) -> (B, 4, n, n, n).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, channels = config.width, config.conv_channels
        context_width = config.encoder_width
        self.time = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.context = MLP(context_width, 2 * width, width)
        self.summary = MLP(context_width, 2 * width, width)
        self.gate = MLP(context_width, 2 * channels, channels)

        self.first = nn.Conv3d(LATENT_CHANNELS, channels, 3, padding=1)
        self.down = nn.ModuleList([_ConvBlock(channels, width) for _ in range(config.conv_blocks)])
        self.token_norm = nn.LayerNorm(channels)
        self.to_tokens = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.empty(1, config.latent**3, width))
        self.registers = nn.Parameter(torch.empty(1, REGISTERS, width))
        self.blocks = nn.ModuleList(
            [_TransformerBlock(width, config.heads) for _ in range(config.depth)]
        )
        self.out_norm = nn.LayerNorm(width)
        self.to_grid = nn.Linear(width, channels)
        self.skip_gates = nn.ModuleList(
            [nn.Linear(channels, channels) for _ in range(config.conv_blocks)]
        )
        self.up = nn.ModuleList([_ConvBlock(channels, width) for _ in range(config.conv_blocks)])
        self.last_norm = group_norm(channels)
        self.last = nn.Conv3d(channels, LATENT_CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        time = self.time(_sinusoid(timestep))
        modulation = time + self.summary(context).mean(dim=1)
        gate = self.gate(context).mean(dim=1)
        context = self.context(context)

        x = self.first(x)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x, time, gate)
            skips.append(x)

        shape = x.shape
        tokens = self.to_tokens(self.token_norm(x.flatten(2).transpose(1, 2))) + self.position
        tokens = torch.cat([self.registers.expand(shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, modulation, context)
        tokens = self.to_grid(self.out_norm(tokens[:, REGISTERS:]))
        x = tokens.transpose(1, 2).reshape(shape)

        for block, skip_gate, skip in zip(self.up, self.skip_gates, reversed(skips), strict=True):
            x = block(x + skip * _per_channel(skip_gate(gate)), time, gate)
        return self.last(F.silu(self.last_norm(x)))


class _TransformerBlock(nn.Module):
    """Self-attention and MLP with adaptive LayerNorm (DiT, arXiv 2212.09748), and plain
    cross-attention between them.

    Shapes: x (B, N, width), modulation (B, width), context (B, M, width) -> (B, N, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, heads, normed=True)
        self.cross_attention = CrossAttention(width, heads, width)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = MLP(width, 4 * width, width)

    def forward(self, x: Tensor, modulation: Tensor, context: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            self.modulation(F.silu(modulation)).unsqueeze(1).chunk(6, dim=-1)
        )
        x = x + gate1 * self.attention(self.attention_norm(x) * (1 + scale1) + shift1)
        x = x + self.cross_attention(x, context)
        return x + gate2 * self.mlp(self.mlp_norm(x) * (1 + scale2) + shift2)


class _ConvBlock(nn.Module):
    """A residual block whose second norm is modulated by the time and whose result is gated.

    Shapes: x (B, C, n, n, n), time (1, width), gate (B, C) -> (B, C, n, n, n).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * channels)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: Tensor, time: Tensor, gate: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(time)).chunk(2, dim=-1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + _per_channel(scale)) + _per_channel(shift)
        return x + self.conv2(F.silu(h)) * _per_channel(self.gate(gate))


def _sinusoid(timestep: Tensor) -> Tensor:
    """Sines and cosines of a timestep (B,) at geometric frequencies: (B, 256)."""
    half = _TIME_WIDTH // 2
    frequencies = torch.exp(
        -math.log(10000.0) / half * torch.arange(half, dtype=torch.float32, device=timestep.device)
    )
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _per_channel(x: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1, 1)."""
    return x[:, :, None, None, None]
