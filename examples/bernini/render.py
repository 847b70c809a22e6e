"""A picture of a mesh: perspective, soft light, a shadow on the ground. NumPy and Pillow only.

No display, no OpenGL: a million triangles take a few seconds on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .raster import NOTHING, barycentric, rasterise

__all__ = ["render", "save_picture"]

_OUTSIDE = np.array([0.93, 0.62, 0.28])
_INSIDE = np.array([0.42, 0.33, 0.36])
_GROUND = np.array([0.91, 0.92, 0.94])
_SUN = np.array([0.45, 0.85, 0.5]) / np.linalg.norm([0.45, 0.85, 0.5])

_FIELD_OF_VIEW = np.radians(32)
_SHADOW_SIDE = 768
#: Where the shadow map is read around a point, in texels, to soften the shadow's edge.
_SOFTNESS = (-4, -2, 0, 2, 4)


def save_picture(path: Path | str, picture: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 picture; the suffix gives the format."""
    from PIL import Image

    Image.fromarray(picture).save(path, optimize=True)


def render(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    side: int = 512,
    azimuth: float = 35.0,
    elevation: float = 22.0,
    supersampling: int = 2,
) -> np.ndarray:
    """Draw a mesh, y up, fitted into the picture.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int, counter-clockwise seen from outside.
        side: of the square picture, in pixels.
        azimuth: degrees from the z axis towards the x axis, of where the camera stands.
        elevation: degrees above the ground.
        supersampling: rays per pixel and axis, averaged.

    Returns:
        (side, side, 3) uint8.
    """
    if not len(faces):
        return np.broadcast_to(_to_bytes(_GROUND), (side, side, 3)).copy()
    vertices = vertices.astype(np.float32, copy=False)
    used = vertices[np.unique(faces)]
    camera = _Camera.fitted(used, side * supersampling, azimuth, elevation)
    shadow = _Shadow.cast(vertices, faces, used)

    seen = rasterise(camera.project(vertices), faces, camera.side, camera.side)
    colours = _shade_ground(camera, shadow, float(used[:, 1].min()))
    rows, columns = np.nonzero(seen != NOTHING)
    triangles = faces[seen[rows, columns]]
    normals = _vertex_normals(vertices, faces)
    colours[rows, columns] = _shade_mesh(
        camera, shadow, vertices, normals, triangles, columns, rows
    )
    blocks = colours.reshape(side, supersampling, side, supersampling, 3)
    return _to_bytes(blocks.mean(axis=(1, 3)))


@dataclass(frozen=True)
class _Camera:
    """A pinhole at ``eye``; the rows of ``axes`` point right, up and towards the viewer."""

    eye: np.ndarray
    axes: np.ndarray
    side: int
    focal: float

    @staticmethod
    def fitted(points: np.ndarray, side: int, azimuth: float, elevation: float) -> _Camera:
        around, above = np.radians(azimuth), np.radians(elevation)
        back = np.array(
            [np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)]
        )
        axes = _frame(back)
        centre = (points.min(axis=0) + points.max(axis=0)) / 2
        radius = max(float(np.linalg.norm(points - centre, axis=1).max()), 1e-6)
        distance = 1.05 * radius / np.sin(_FIELD_OF_VIEW / 2)
        return _Camera(centre + back * distance, axes, side, side / 2 / np.tan(_FIELD_OF_VIEW / 2))

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) -> (N, 3): x and y in pixels, and a depth that is linear on the screen."""
        x, y, z = self.axes @ (points - self.eye).T
        scale = self.focal / -z
        # Depth is 1 - c / distance, with c such that all that is seen lies between 0 and 1.
        depth = 1 - 0.01 * scale / self.focal
        return np.stack([self.side / 2 + x * scale, self.side / 2 - y * scale, depth], axis=1)

    def rays(self) -> np.ndarray:
        """Directions through all pixels: (side, side, 3), not normalised."""
        steps = (np.arange(self.side) + 0.5 - self.side / 2) / self.focal
        right, up, back = self.axes
        return steps[None, :, None] * right - steps[:, None, None] * up - back


@dataclass(frozen=True)
class _Shadow:
    """What the sun sees: an orthographic depth map."""

    axes: np.ndarray
    origin: np.ndarray
    scale: float
    depth: np.ndarray
    bias: float

    @staticmethod
    def cast(vertices: np.ndarray, faces: np.ndarray, used: np.ndarray) -> _Shadow:
        axes = _frame(_SUN)
        extent = used @ axes.T
        low, high = extent.min(axis=0), extent.max(axis=0)
        size = max(float((high - low).max()), 1e-6)
        scale = _SHADOW_SIDE / (size * 1.02)
        origin = np.array([low[0] - 0.01 * size, low[1] - 0.01 * size, high[2] + 0.01 * size])
        points = _light_space(vertices, axes, origin, scale)
        seen = rasterise(points, faces, _SHADOW_SIDE, _SHADOW_SIDE)
        rows, columns = np.nonzero(seen != NOTHING)
        corners = points[faces[seen[rows, columns]]]
        depth = np.full((_SHADOW_SIDE, _SHADOW_SIDE), np.inf, np.float32)
        depth[rows, columns] = (_weights(corners, columns, rows) * corners[:, :, 2]).sum(axis=1)
        # Three texels: less and slopes shade themselves, more and thin parts cast no shadow.
        return _Shadow(axes, origin, scale, depth, bias=3.0)

    def lit(self, points: np.ndarray) -> np.ndarray:
        """The share of the sun that reaches points (N, 3), softened over 5 x 5 texels: (N,)."""
        x, y, depth = _light_space(points, self.axes, self.origin, self.scale).T
        # The map's edge is never a blocker: the shape lies wholly within it.
        columns = [(x + shift).clip(0, _SHADOW_SIDE - 1).astype(np.int64) for shift in _SOFTNESS]
        rows = [(y + shift).clip(0, _SHADOW_SIDE - 1).astype(np.int64) for shift in _SOFTNESS]
        total = np.zeros(len(points), np.float32)
        for column in columns:
            for row in rows:
                total += self.depth[row, column] + self.bias > depth
        return total / len(_SOFTNESS) ** 2


def _light_space(
    points: np.ndarray, axes: np.ndarray, origin: np.ndarray, scale: float
) -> np.ndarray:
    """(N, 3) -> texel x, texel y, depth in texels from the sun, which is positive."""
    return ((points @ axes.T - origin) * (scale, scale, -scale)).astype(np.float32)


def _shade_mesh(
    camera: _Camera,
    shadow: _Shadow,
    vertices: np.ndarray,
    vertex_normals: np.ndarray,
    triangles: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Colours of the pixels (N,) at which the triangles (N, 3) are seen: (N, 3)."""
    corners = vertices[triangles]
    screen = camera.project(corners.reshape(-1, 3)).reshape(-1, 3, 3)
    # Divided by distance, which is 1 - depth up to a factor, to be correct in perspective.
    weights = _weights(screen, columns, rows) * (1 - screen[:, :, 2])
    weights /= weights.sum(axis=1, keepdims=True)
    points = _weighted(weights, corners)
    normals = _unit(_weighted(weights, vertex_normals[triangles]))

    to_eye = _unit(camera.eye - points)
    facing = (normals * to_eye).sum(axis=1)
    front = facing >= 0
    normals = np.where(front[:, None], normals, -normals)
    colour = np.where(front[:, None], _OUTSIDE, _INSIDE)

    lit = shadow.lit(points + normals * (1.5 / shadow.scale))
    sun = (normals @ _SUN).clip(0) * lit
    sky = 0.5 + 0.5 * normals[:, 1]
    shine = (normals * _unit(to_eye + _SUN)).sum(axis=1).clip(0) ** 40 * lit
    rim = (1 - np.abs(facing)) ** 3
    light = 0.16 + 0.26 * sky + 0.72 * sun + 0.12 * rim
    return colour * light[:, None] + 0.18 * shine[:, None]


def _shade_ground(camera: _Camera, shadow: _Shadow, height: float) -> np.ndarray:
    """The background: a ground at ``height`` that shows nothing but the shadow on it."""
    rays = camera.rays().reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (height - camera.eye[1]) / rays[:, 1]
    hit = np.flatnonzero(np.isfinite(distance) & (distance > 0))
    light = np.ones(len(rays))
    light[hit] = 0.72 + 0.28 * shadow.lit(camera.eye + rays[hit] * distance[hit, None])
    return (_GROUND * light[:, None]).reshape(camera.side, camera.side, 3)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3), each the sum of its faces' normals by area, not normalised."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    flat = faces.ravel()
    return np.stack(
        [
            np.bincount(flat, np.repeat(normals[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )


def _weights(corners: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Barycentric weights (N, 3) at the centres of pixels (N,)."""
    x, y = columns[:, None] + 0.5, rows[:, None] + 0.5
    return np.concatenate(barycentric(corners, x, y), axis=1).clip(0)


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N, 3), (N, 3, C) -> (N, C)."""
    return np.einsum("nk,nkc->nc", weights, values)


def _frame(back: np.ndarray) -> np.ndarray:
    """Right, up and ``back`` as rows, for a direction that is not straight up."""
    right = _unit(np.cross([0.0, 1.0, 0.0], back))
    return np.stack([right, np.cross(back, right), back])


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _to_bytes(colours: np.ndarray) -> np.ndarray:
    """Linear light 0..1 -> gamma-corrected bytes."""
    return (colours.clip(0, 1) ** (1 / 1.6) * 255).round().astype(np.uint8)
