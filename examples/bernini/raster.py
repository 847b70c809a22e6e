"""A z-buffer in NumPy: which triangle is seen at which pixel."""

from __future__ import annotations

import numpy as np

__all__ = ["NOTHING", "barycentric", "rasterise"]

#: Triangle index of a pixel that no triangle covers.
NOTHING = -1

#: Pixels looked at in one go; bounds the temporary arrays to some ten MB, which caches like.
_CHUNK = 1 << 18

_EMPTY = np.iinfo(np.uint64).max


def rasterise(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """The nearest triangle at every pixel's centre.

    1. Round every triangle's bounding box to the pixel centres within; most triangles of a fine
       mesh contain none and are dropped.
    2. Put triangles whose boxes have about the same size into one class, and look at all pixels of
       all boxes of a class at once.
    3. Resolve depth by the minimum of (depth, triangle) packed into one integer per pixel.

    Args:
        points: (V, 3) float: x and y in pixels, and a positive depth that is linear on the screen.
        faces: (F, 3) int.
        height, width: of the picture, in pixels.

    Returns:
        (height, width) int64 indices into ``faces``, ``NOTHING`` where there is none.
    """
    left, columns = _pixel_range(points[:, 0], faces, width)
    top, rows = _pixel_range(points[:, 1], faces, height)
    covering = np.flatnonzero((columns > 0) & (rows > 0))
    # Classes by the logarithms of both sides: boxes of 1, 2, 3-4, 5-8, ... pixels.
    classes = 32 * _log2(rows[covering]) + _log2(columns[covering])

    nearest = np.full(height * width, _EMPTY, np.uint64)
    for kind in np.flatnonzero(np.bincount(classes)):
        box_y, box_x = (grid.ravel() for grid in np.mgrid[: 1 << kind // 32, : 1 << kind % 32])
        members = covering[classes == kind]
        for some in np.array_split(members, -(-len(members) * len(box_x) // _CHUNK)):
            x, y = left[some, None] + box_x, top[some, None] + box_y
            weights = barycentric(points[faces[some]], x + np.float32(0.5), y + np.float32(0.5))
            depth = sum(w * points[faces[some, i], 2, None] for i, w in enumerate(weights))
            inside = (x < width) & (y < height) & (depth > 0)
            for weight in weights:
                inside &= weight >= 0
            # The bits of positive floats are ordered as the floats are.
            bits = depth[inside].astype(np.float32).view(np.uint32)
            key = bits.astype(np.uint64) << np.uint64(32)
            key |= some[np.nonzero(inside)[0]].astype(np.uint64)
            np.minimum.at(nearest, y[inside] * width + x[inside], key)
    seen = (nearest & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return np.where(nearest == _EMPTY, NOTHING, seen).reshape(height, width)


def barycentric(
    corners: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of three corners at points of the screen; NaN where a triangle has no area.

    Shapes: corners (N, 3, >=2), x and y (N, K) -> three times (N, K).
    """
    (ax, ay), (bx, by), (cx, cy) = (
        (corners[:, i, 0, None], corners[:, i, 1, None]) for i in range(3)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
        second = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) * scale
        third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * scale
        return 1 - second - third, second, third


def _pixel_range(
    positions: np.ndarray, faces: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """First pixel whose centre a triangle's extent on one axis contains, and how many: (F,)."""
    a, b, c = (positions[faces[:, i]] for i in range(3))
    low = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).clip(0, size)
    high = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).clip(-1, size - 1)
    return low.astype(np.int64), (high - low + 1).astype(np.int64)


def _log2(count: np.ndarray) -> np.ndarray:
    """The logarithm rounded up, of counts from 1."""
    return np.ceil(np.log2(count)).astype(np.int64)
