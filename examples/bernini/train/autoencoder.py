"""The autoencoder as it is trained: an encoder for the pipeline's decoder, and codes on a grid.

The codes are a lattice and not learned (finite scalar quantisation, arXiv 2309.15505): every code
is in use from the first step and none can die, and the nearest of them, which the decoder of the
pipeline takes, is the rounded latent.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bernini.config import LATENT_CHANNELS, PACKED_CHANNELS, Config
from bernini.decoder import Decoder
from bernini.layers import ResidualBlock, group_norm

__all__ = ["LEVELS", "Autoencoder", "Encoder", "lattice"]

#: Levels of the four latent channels, whose product is the number of codes.
LEVELS = (8, 8, 4, 4)


def lattice() -> np.ndarray:
    """All codes: (1024, 4), each channel from -1 to 1."""
    axes = [np.linspace(-1, 1, levels) for levels in LEVELS]
    return np.array(list(itertools.product(*axes)), np.float32)


class Encoder(nn.Module):
    """Packed coefficients -> latent grid, between -1 and 1.

    Shapes: (B, 64, 4n - 2, 4n - 2, 4n - 2) -> (B, 4, n, n, n).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Conv3d(PACKED_CHANNELS, width, 4, stride=2, padding=1)
        self.fine_block = ResidualBlock(width)
        self.coarse = nn.Conv3d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse_blocks = nn.Sequential(*[ResidualBlock(2 * width) for _ in range(2)])
        self.norm = group_norm(2 * width)
        self.last = nn.Conv3d(2 * width, LATENT_CHANNELS, 1)

    def forward(self, packed: Tensor) -> Tensor:
        x = self.fine_block(self.fine(packed))
        x = self.coarse_blocks(self.coarse(x))
        return torch.tanh(self.last(F.silu(self.norm(x))))


class Autoencoder(nn.Module):
    """Encoder and decoder between coefficients of unit variance.

    Attributes:
        mean, scale: (64,) of each channel of the coefficients over the training set.
    """

    def __init__(self, config: Config, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.encoder = Encoder(config.autoencoder_width)
        self.decoder = Decoder(config)
        self.register_buffer("mean", mean[:, None, None, None])
        self.register_buffer("scale", scale[:, None, None, None])
        self.decoder.codes = nn.Parameter(torch.from_numpy(lattice()), requires_grad=False)

    def encode(self, packed: Tensor) -> Tensor:
        """Coefficients -> latents between -1 and 1, not yet rounded to codes."""
        return self.encoder((packed - self.mean) / self.scale)

    def round(self, latent: Tensor) -> Tensor:
        """The nearest codes. The gradient passes as if there were no rounding."""
        return latent + (self.decoder.quantise(latent) - latent).detach()

    def decode(self, codes: Tensor) -> Tensor:
        """Codes -> coefficients."""
        return self.decoder.decode(codes) * self.scale + self.mean
