"""From packed wavelet coefficients to a signed distance field.

The wavelet is the biorthogonal 6.8 of Cohen, Daubechies and Feauveau ("Biorthogonal bases of
compactly supported wavelets", 1992), called ``bior6.8`` in PyWavelets, from which the taps are
taken. Coefficients outside the grid are zero (PyWavelets' mode ``zero``), so that one level of
synthesis maps a side of n to 2n - 16.

A band's name gives the filter of each axis: band 1 of 7 is low in x, low in y, high in z; band 4
is high in x and low in the others (PyWavelets' ``aad`` and ``daa``).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["HIGH_PASS", "LOW_PASS", "InverseWavelet", "synthesis_matrix", "unpack"]

_TAPS = 18
_PAD = 16

# Both filters are symmetric; these are their taps from the middle outwards.
_LOW_HALF = (
    0.7589077294536541,
    0.41784910915027457,
    -0.04036797903033992,
    -0.07872200106262882,
    0.014467504896790148,
    0.014426282505624435,
)
_HIGH_HALF = (
    -0.8259229974584023,
    0.4207962846098268,
    0.09405920349573646,
    -0.07726317316720414,
    -0.04973290349094079,
    0.01193456527972926,
    0.016990639867602342,
    -0.0019142861290887667,
    -0.0019088317364812906,
)

#: Synthesis filters (``rec_lo`` and ``rec_hi``), padded with zeros to a common length.
LOW_PASS = (0.0, 0.0, 0.0, *_LOW_HALF[:0:-1], *_LOW_HALF, 0.0, 0.0, 0.0, 0.0)
HIGH_PASS = (0.0, *_HIGH_HALF[:0:-1], *_HIGH_HALF)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take the bands of three levels apart.

    Channel 0 is the low band and channels 57 to 63 are the coarsest level's seven bands, on the
    same grid. Channels 1 to 56 are the next level's on a grid twice as fine, in the order (x's
    lowest bit, band, y's lowest bit, z's lowest bit); that level's side is 2n - 16, so it is
    cropped by 8 at either end. The finest level is zero and is not stored.

    Shapes: (1, 64, n, n, n) -> (n, n, n), (7, n, n, n), (7, 2n - 16, 2n - 16, 2n - 16).
    """
    side = packed.shape[-1]
    low, coarse = packed[0, 0], packed[0, 57:]
    fine = packed[0, 1:57].reshape(2, 7, 2, 2, side, side, side)
    # (x2, band, y2, z2, x, y, z) -> (band, x, x2, y, y2, z, z2)
    fine = fine.permute(1, 4, 0, 5, 2, 6, 3).reshape(7, 2 * side, 2 * side, 2 * side)
    return low, coarse, fine[:, 8:-8, 8:-8, 8:-8]


class InverseWavelet(nn.Module):
    """Unpacks and synthesises. Linear, without parameters; its matrices are computed constants.

    The transform is separable, so every level is three products with a banded matrix of
    (2n - 16) x n, which is far cheaper than a 3D convolution with 18^3 taps.

    Shapes: (1, 64, low, low, low) -> (resolution, resolution, resolution).
    """

    def __init__(self, low: int) -> None:
        super().__init__()
        side = low
        for level in range(3):
            self._keep(f"low{level}", synthesis_matrix(LOW_PASS, side))
            if level < 2:
                self._keep(f"high{level}", synthesis_matrix(HIGH_PASS, side))
            side = 2 * side - _PAD

    def forward(self, packed: Tensor) -> Tensor:
        low, coarse, fine = unpack(packed)
        low = _synthesise(low, coarse, self.low0, self.high0)
        low = _synthesise(low, fine, self.low1, self.high1)
        return _synthesise(low, None, self.low2, None)

    def _keep(self, name: str, matrix: Tensor) -> None:
        self.register_buffer(name, matrix, persistent=False)


def synthesis_matrix(taps: tuple[float, ...], side: int) -> Tensor:
    """One axis of one level: zeros put between ``side`` samples, filtered, cropped at both ends.

    Equal to a transposed convolution of stride 2 and padding 16. Shape: (2 * side - 16, side).
    """
    rows, columns = np.indices((2 * side - _PAD, side))
    tap = rows - 2 * columns + _PAD
    inside = (tap >= 0) & (tap < _TAPS)
    matrix = np.where(inside, np.asarray(taps)[tap.clip(0, _TAPS - 1)], 0.0)
    return torch.from_numpy(matrix.astype(np.float32))


def _synthesise(
    low: Tensor, high: Tensor | None, low_matrix: Tensor, high_matrix: Tensor | None
) -> Tensor:
    """One level: (n, n, n) and (7, n, n, n) -> (m, m, m); None for bands that are all zero."""
    if high is None or high_matrix is None:
        return _along_x(low_matrix, _along_y(low_matrix, _along_z(low_matrix, low)))
    # Bands in order of their bits (x, y, z), so that halving the bands sums over one axis.
    bands = torch.cat([low[None], high])
    bands = _along_z(low_matrix, bands[0::2]) + _along_z(high_matrix, bands[1::2])
    bands = _along_y(low_matrix, bands[0::2]) + _along_y(high_matrix, bands[1::2])
    return _along_x(low_matrix, bands[0]) + _along_x(high_matrix, bands[1])


def _along_z(matrix: Tensor, x: Tensor) -> Tensor:
    """(..., n) -> (..., m)."""
    return x @ matrix.T


def _along_y(matrix: Tensor, x: Tensor) -> Tensor:
    """(..., n, Z) -> (..., m, Z)."""
    return matrix @ x


def _along_x(matrix: Tensor, x: Tensor) -> Tensor:
    """(n, Y, Z) -> (m, Y, Z)."""
    return (matrix @ x.flatten(1)).reshape(-1, *x.shape[1:])
