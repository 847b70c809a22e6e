"""How alike two shapes are, in NumPy and SciPy: checks of bundles use it where they are served."""

from __future__ import annotations

import numpy as np

__all__ = ["chamfer_distance", "field_iou", "mesh_iou", "occupied", "surface_points"]


def field_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Volumetric intersection over union of two fields (R, R, R), negative inside; 1 if both are
    empty.
    """
    return _iou(first < 0, second < 0)


def mesh_iou(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], side: int = 64
) -> float:
    """Volumetric intersection over union of what two closed meshes (vertices, faces) enclose, on a
    grid of ``side`` points an axis over -1..1.
    """
    return _iou(occupied(*first, side), occupied(*second, side))


def chamfer_distance(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    count: int = 10000,
    seed: int = 0,
) -> float:
    """The mean distance from points of either surface to the nearest of the other, both ways.

    Args:
        first, second: vertices (V, 3) and faces (F, 3).
        count: points drawn on each surface, by area.
        seed: of the drawing.

    Returns:
        half the sum of both means, in units of the vertices; infinite if one has no faces.
    """
    from scipy.spatial import cKDTree

    if not len(first[1]) or not len(second[1]):
        return float("inf")
    rng = np.random.default_rng(seed)
    one, other = (surface_points(*mesh, count, rng) for mesh in (first, second))
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    return float(there.mean() + back.mean()) / 2


def occupied(vertices: np.ndarray, faces: np.ndarray, side: int) -> np.ndarray:
    """Which points of a grid over -1..1 a closed mesh encloses: (side, side, side) bool.

    1. Look along z: find which columns of the grid each triangle covers, seen from above.
    2. At the height at which it crosses a column, note whether the surface is entered or left.
    3. Sum up each column: inside is where more has been entered than left.

    Columns are shifted by an irrational part of a step, since edges of a triangulated grid lie
    exactly on the columns of that grid.
    """
    steps = np.zeros((side, side, side + 1), np.int32)
    corners = ((vertices.astype(np.float64) + 1) / 2 * side)[faces]
    corners[:, :, :2] -= np.array([np.sqrt(2), np.sqrt(3)]) * 1e-4
    low = np.ceil(corners.min(axis=1)).clip(0, side).astype(np.int64)
    high = np.floor(corners.max(axis=1)).clip(-1, side - 1).astype(np.int64)
    spans = (high - low + 1).clip(0)[:, :2]
    # Triangles by the size of their boxes, so that equal boxes are looked at in one go.
    for wide, deep in np.unique(spans[spans.min(axis=1) > 0], axis=0):
        members = np.flatnonzero((spans[:, 0] == wide) & (spans[:, 1] == deep))
        box = np.stack(np.meshgrid(np.arange(wide), np.arange(deep), indexing="ij"), -1)
        columns = low[members, None, :2] + box.reshape(1, -1, 2)
        _cross(steps, corners[members], columns)
    return steps.cumsum(axis=2)[:, :, :side] > 0


def surface_points(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points on a surface, evenly by area: (count, 3)."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(faces), count, p=areas / areas.sum())
    # Folded at the diagonal: a square's points fall on a triangle evenly.
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]


def _cross(steps: np.ndarray, corners: np.ndarray, columns: np.ndarray) -> None:
    """Note where triangles (N, 3, 3) cross columns (N, K, 2)."""
    a, b, c = (corners[:, i, None, :2] for i in range(3))
    area = _area(a, b, c)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = [_area(b, c, columns) / area, _area(c, a, columns) / area]
        weights.append(1 - weights[0] - weights[1])
        height = sum(weight * corners[:, i, None, 2] for i, weight in enumerate(weights))
        inside = (weights[0] >= 0) & (weights[1] >= 0) & (weights[2] >= 0)
    # A face that looks down, clockwise from above, is where the shape is entered.
    direction = np.broadcast_to(-np.sign(area), inside.shape)[inside].astype(np.int32)
    first = np.ceil(height[inside]).clip(0, steps.shape[2] - 1).astype(np.int64)
    x, y = columns[inside].T
    np.add.at(steps, (x, y, first), direction)


def _area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles seen from above."""
    ab, ac = b - a, c - a
    return ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
