"""Analytic signed distance fields: what tests, timings and the example's picture are made of.

A field is (R, R, R) float32 over -1..1 on each axis, y up, negative inside; voxel i lies at
i / R * 2 - 1, where ``partitioner.ops.marching_cubes`` puts it.
"""

from __future__ import annotations

import numpy as np

__all__ = ["chair", "ripples", "sphere"]


def sphere(resolution: int, radius: float = 0.6) -> np.ndarray:
    x, y, z = _grid(resolution)
    return np.sqrt(x * x + y * y + z * z) - np.float32(radius)


def ripples(resolution: int, waves: float = 6.0) -> np.ndarray:
    """A gyroid, which fills the cube with surface; for meshes with very many triangles."""
    x, y, z = (np.float32(waves * np.pi) * axis for axis in _grid(resolution))
    return np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)


def chair(resolution: int) -> np.ndarray:
    """A chair: a seat, a back of three slats between two posts, and four legs."""
    parts = [_box(resolution, (0, -0.08, 0), (0.46, 0.05, 0.46))]
    for x in (-0.4, 0.4):
        parts.append(_box(resolution, (x, -0.5, 0.4), (0.045, 0.4, 0.045)))
        parts.append(_box(resolution, (x, 0.0, -0.4), (0.045, 0.9, 0.045)))
    for y in (0.3, 0.53, 0.76):
        parts.append(_box(resolution, (0, y, -0.4), (0.4, 0.07, 0.025)))
    field = parts[0]
    for part in parts[1:]:
        field = _smooth_union(field, part, 0.04)
    return field


def _box(
    resolution: int,
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    rounding: float = 0.02,
) -> np.ndarray:
    axes = zip(_grid(resolution), centre, half, strict=True)
    x, y, z = (np.abs(axis - c) - (h - rounding) for axis, c, h in axes)
    outside = np.sqrt(x.clip(0) ** 2 + y.clip(0) ** 2 + z.clip(0) ** 2)
    inside = np.minimum(np.maximum(np.maximum(x, y), z), 0)
    return (outside + inside - rounding).astype(np.float32)


def _smooth_union(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """The minimum, rounded where the two are closer than ``radius`` (a polynomial blend)."""
    near = (radius - np.abs(a - b)).clip(0) / radius
    return np.minimum(a, b) - near * near * radius / 4


def _grid(resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axis = np.arange(resolution, dtype=np.float32) / resolution * 2 - 1
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]
