"""From a signed distance field to packed wavelet coefficients: the inverse of ``wavelet.py``.

The finest details are left out, as in the pipeline, so the way there and back smooths the field.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bernini.wavelet import HIGH_PASS, LOW_PASS

__all__ = ["Wavelet", "analysis_matrix", "pack"]

_TAPS = 18


class Wavelet(nn.Module):
    """Analyses and packs. Linear, without parameters.

    Shapes: (B, R, R, R) -> (B, 64, low, low, low) for R = 8 * low - 112.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__()
        side = resolution
        for level in range(3):
            low, high = analysis_matrix("low", side), analysis_matrix("high", side)
            self.register_buffer(f"low{level}", low, persistent=False)
            self.register_buffer(f"high{level}", high, persistent=False)
            side = low.shape[0]

    def forward(self, field: Tensor) -> Tensor:
        low = _bands(field, self.low0, None)[:, 0]
        fine = _bands(low, self.low1, self.high1)
        coarse = _bands(fine[:, 0], self.low2, self.high2)
        return pack(coarse[:, 0], coarse[:, 1:], fine[:, 1:])


def pack(low: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    """Put the bands of two levels into one grid: the inverse of ``wavelet.unpack``.

    Shapes: (B, n, n, n), (B, 7, n, n, n), (B, 7, 2n - 16, ...) -> (B, 64, n, n, n).
    """
    batch, side = low.shape[0], low.shape[-1]
    fine = nn.functional.pad(fine, (8,) * 6)
    fine = fine.reshape(batch, 7, side, 2, side, 2, side, 2)
    # (B, band, x, x2, y, y2, z, z2) -> (B, x2, band, y2, z2, x, y, z)
    fine = fine.permute(0, 3, 1, 5, 7, 2, 4, 6).reshape(batch, 56, side, side, side)
    return torch.cat([low[:, None], fine, coarse], dim=1)


def analysis_matrix(band: str, side: int) -> Tensor:
    """One axis of one level: filtered, every second sample kept. Shape: ((side + 16) / 2, side).

    The analysis filters of a biorthogonal wavelet are its synthesis filters of the other band,
    reversed, with alternating signs. Samples outside are those at the border: PyWavelets' mode
    ``constant``. Synthesis gives the field back exactly, whatever they are taken to be.
    """
    signs = (-1.0) ** np.arange(_TAPS)
    taps = signs * np.asarray(HIGH_PASS) if band == "low" else -signs * np.asarray(LOW_PASS)
    matrix = np.zeros(((side + 16) // 2, side))
    for row in range(len(matrix)):
        for tap, weight in enumerate(taps):
            matrix[row, min(max(2 * row + 1 - tap, 0), side - 1)] += weight
    return torch.from_numpy(matrix.astype(np.float32))


def _bands(x: Tensor, low: Tensor, high: Tensor | None) -> Tensor:
    """One level of all three axes: (B, n, n, n) -> (B, 8, m, m, m), or (B, 1, ...) without high.

    Bands are in the order of their bits (x, y, z), low first.
    """
    filters = torch.stack([low] if high is None else [low, high])
    split = torch.einsum("bxyz,fux,gvy,hwz->bfghuvw", x, filters, filters, filters)
    return split.flatten(1, 3)
