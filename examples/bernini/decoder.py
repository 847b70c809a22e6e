"""The autoencoder's decoder: latent grid -> wavelet coefficients packed into one grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import CODES, LATENT_CHANNELS, PACKED_CHANNELS, Config
from .layers import ResidualBlock, group_norm

__all__ = ["Decoder"]

_BLOCKS = (3, 2, 2)


class Decoder(nn.Module):
    """Replaces every latent vector by its nearest code, then convolves up to the coefficients.

    Shapes: (B, 4, n, n, n) -> (B, 64, 4n - 2, 4n - 2, 4n - 2).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.autoencoder_width
        self.codes = nn.Parameter(torch.empty(CODES, LATENT_CHANNELS))
        self.first = nn.Conv3d(LATENT_CHANNELS, width, 3, padding=1)
        self.coarse, self.middle, self.fine = (
            nn.Sequential(*[ResidualBlock(width) for _ in range(count)]) for count in _BLOCKS
        )
        self.last_norm = group_norm(width)
        self.last = nn.Conv3d(width, PACKED_CHANNELS, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        return self.decode(self.quantise(latent))

    def decode(self, codes: Tensor) -> Tensor:
        """What follows the quantisation; same shapes."""
        x = self.coarse(self.first(codes))
        # Cropped by one, so that the result has the odd-looking side the wavelet levels need.
        x = _double(x)[:, :, :-1, :-1, :-1]
        x = self.middle(x)
        x = self.fine(_double(x))
        return self.last(F.silu(self.last_norm(x)))

    def quantise(self, latent: Tensor) -> Tensor:
        """The nearest code to every vector; of codes equally near, the first.

        Shapes: (B, 4, n, n, n) -> (B, 4, n, n, n).
        """
        vectors = latent.permute(0, 2, 3, 4, 1)
        # |v - c|^2 without |v|^2, which is the same for all codes.
        distances = self.codes.square().sum(dim=1) - 2 * vectors @ self.codes.T
        return F.embedding(distances.argmin(dim=-1), self.codes).permute(0, 4, 1, 2, 3)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
