"""Truncated signed distance fields of solids, in bytes."""

from __future__ import annotations

import numpy as np

from .solids import Points, Solid

__all__ = ["TRUNCATION", "field_of", "grid", "to_bytes", "to_distances"]

#: Distances are cut off here on either side: far from the surface there is nothing to learn.
TRUNCATION = 0.12


def grid(resolution: int) -> Points:
    """Open axes of a field: voxel i lies at i / R * 2 - 1, where triangulation puts it."""
    axis = (np.arange(resolution, dtype=np.float32) / resolution) * 2 - 1
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]


def field_of(solid: Solid, resolution: int) -> np.ndarray:
    """The truncated distances on a grid: (R, R, R) float32."""
    distances = solid(grid(resolution))
    return np.broadcast_to(distances, (resolution,) * 3).clip(-TRUNCATION, TRUNCATION)


def to_bytes(field: np.ndarray) -> np.ndarray:
    """Distances -> int8, in steps of a 127th of the truncation: a thirtieth of a voxel at 64."""
    return np.round(field * (127 / TRUNCATION)).astype(np.int8)


def to_distances(field: np.ndarray) -> np.ndarray:
    """What ``to_bytes`` made -> float32 distances."""
    return field.astype(np.float32) * np.float32(TRUNCATION / 127)
