"""Encoders: a picture, a point cloud or voxels -> context tokens (B, tokens, width)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import CLOUD_TOKENS, IMAGE_SIDE, REGISTERS, Config
from .layers import MLP, CrossAttention, ResidualBlock, SelfAttention

__all__ = ["CloudEncoder", "ImageEncoder", "VoxelEncoder", "build_encoder"]


def build_encoder(config: Config, condition: str) -> nn.Module:
    """The encoder of one condition."""
    return {"image": ImageEncoder, "cloud": CloudEncoder, "voxels": VoxelEncoder}[condition](config)


class ImageEncoder(nn.Module):
    """A vision transformer with register tokens (arXiv 2309.16588): L/14 at paper size.

    Shapes: (B, 3, 224, 224) -> (B, 256, width): one token a patch of 14 x 14 (``small``: 64, of
    28 x 28).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.encoder_width
        side = config.patch_side
        patches = (IMAGE_SIDE // side) ** 2
        self.patches = nn.Conv2d(3, width, side, side)
        self.summary = nn.Parameter(torch.empty(1, 1, width))
        self.registers = nn.Parameter(torch.empty(1, REGISTERS, width))
        self.position = nn.Parameter(torch.empty(1, patches, width))
        self.blocks = nn.ModuleList(
            [_EncoderBlock(width, config.encoder_heads) for _ in range(config.encoder_depth)]
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2) + self.position
        learned = torch.cat([self.summary, self.registers], dim=1)
        x = torch.cat([learned.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 1 + REGISTERS :])


class _EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class CloudEncoder(nn.Module):
    """Layers on every point by itself, then learned queries attend to all points, then an MLP.

    Shapes: (B, points, 3) -> (B, 256, width).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.encoder_width
        widths = (3, *config.point_widths, width)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(widths)])
        self.norms = nn.ModuleList([nn.LayerNorm(b) for b in widths[1:]])
        self.queries = nn.Parameter(torch.empty(1, CLOUD_TOKENS, width))
        self.attention = CrossAttention(width, config.encoder_heads, width)
        self.mlp = MLP(width, 4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, cloud: Tensor) -> Tensor:
        x = cloud
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        x = self.attention(self.queries.expand(x.shape[0], -1, -1), x)
        return self.norm(x + self.mlp(x))


class VoxelEncoder(nn.Module):
    """Residual blocks of 3D convolutions, then an average over every 2 x 2 x 2 voxels.

    Shapes: (B, 1, 16, 16, 16) -> (B, 512, width).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.voxel_channels
        self.first = nn.Conv3d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList([ResidualBlock(channels) for _ in range(config.voxel_blocks)])
        self.project = nn.Linear(channels, config.encoder_width)
        self.norm = nn.LayerNorm(config.encoder_width)

    def forward(self, voxels: Tensor) -> Tensor:
        x = self.first(voxels)
        for block in self.blocks:
            x = block(x)
        x = F.avg_pool3d(x, 2).flatten(2).transpose(1, 2)
        return self.norm(self.project(x))
