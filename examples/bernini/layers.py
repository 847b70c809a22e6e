"""Layers that several parts share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MLP", "CrossAttention", "ResidualBlock", "SelfAttention", "group_norm"]


class MLP(nn.Module):
    """Linear, GELU (tanh form), Linear on the last axis."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x), approximate="tanh"))


class SelfAttention(nn.Module):
    """Multi-head self-attention; with ``normed``, LayerNorm on queries and keys per head.

    Shapes: (B, N, width) -> (B, N, width).
    """

    def __init__(self, width: int, heads: int, *, normed: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.key_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            _split(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(self.query_norm(query), self.key_norm(key), value)
        return self.out(_join(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention of ``x`` to a context, LayerNorm on queries and keys per head.

    Shapes: (B, N, width), (B, M, context_width) -> (B, N, width).
    """

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.query_norm = nn.LayerNorm(width // heads)
        self.key_norm = nn.LayerNorm(width // heads)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query = self.query_norm(_split(self.query(x), self.heads))
        key, value = (_split(part, self.heads) for part in self.key_value(context).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, self.key_norm(key), value)
        return self.out(_join(mixed))


class ResidualBlock(nn.Module):
    """Two 3D convolutions with group norm and SiLU before each, added to the input.

    Shapes: (B, channels, X, Y, Z) -> same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with four channels a group: 32 groups at the published width of 128."""
    return nn.GroupNorm(channels // 4, channels)


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads * C) -> (B, heads, N, C)."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, heads, width // heads).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """(B, heads, N, C) -> (B, N, heads * C)."""
    return torch.flatten(x.transpose(1, 2), 2)
