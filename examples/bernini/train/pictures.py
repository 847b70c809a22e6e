"""Shaded pictures of fields by sphere tracing, quick enough to draw thousands.

A camera looks at the origin from a fixed distance, so that a picture shows a shape's true size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["View", "draw_picture", "draw_points", "draw_view"]

_FIELD_OF_VIEW = np.radians(30.0)
#: The ball that is just seen whole; shapes reach beyond it in directions that no picture shows.
_SEEN = 1.08
_DISTANCE = _SEEN / np.sin(_FIELD_OF_VIEW / 2)
#: Half the part of a ray that is looked at. A step is at most the field's truncation, 0.12.
_REACH = 1.3
_STEPS = 60

_BACKGROUND = (0.93, 0.93, 0.94)
_BODY = (0.78, 0.72, 0.62)
#: Directions to lights in the camera's axes (right, up, towards the eye), and their colours.
_LIGHTS = (
    ((0.6, 0.65, 0.45), (0.95, 0.9, 0.8)),
    ((-0.8, 0.1, 0.5), (0.2, 0.3, 0.45)),
)
_AMBIENT = 0.15


@dataclass(frozen=True)
class View:
    """Degrees around the y axis, from z towards x, and above the ground."""

    azimuth: float
    elevation: float


def draw_view(rng: np.random.Generator) -> View:
    """A view from the front and above: the side that a photograph of a thing shows."""
    return View(float(rng.uniform(10, 60)), float(rng.uniform(12, 40)))


def draw_picture(field: np.ndarray, view: View, side: int) -> np.ndarray:
    """A picture of a field (R, R, R) of truncated distances: (side, side, 3) uint8."""
    volume = torch.from_numpy(np.ascontiguousarray(field, np.float32))[None, None]
    eye, axes = _camera(view)
    directions = _directions(axes, side)
    points, hit = _trace(volume, eye + directions * (_DISTANCE - _REACH), directions)
    colours = torch.tensor(_BACKGROUND).repeat(len(points), 1)
    colours[hit] = _shade(_normals(volume, points[hit]) @ axes.T)
    picture = colours.reshape(side, side, 3).clamp(0, 1) * 255
    return picture.round().to(torch.uint8).numpy()


def draw_points(points: np.ndarray, view: View, side: int) -> np.ndarray:
    """A picture of points (N, 3), a pixel each, darker where they are nearer: (side, side, 3)
    uint8.
    """
    eye, axes = _camera(view)
    across, up, towards = (axes.numpy() @ points.T.astype(np.float32)).astype(np.float64)
    depth = float(eye.norm()) - towards
    scale = side / 2 / (np.tan(_FIELD_OF_VIEW / 2) * depth)
    pixels = np.floor([side / 2 - up * scale, side / 2 + across * scale]).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < side)).all(axis=0)
    picture = np.tile(np.array(_BACKGROUND) * 255, (side, side, 1)).round().astype(np.uint8)
    # The nearest last, so that it is seen.
    order = np.flatnonzero(inside)[np.argsort(towards[inside])]
    grey = 90 - 70 * towards[order].clip(-1, 1)
    picture[pixels[0, order], pixels[1, order]] = grey.round().astype(np.uint8)[:, None]
    return picture


def _trace(volume: Tensor, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays meet the surface, (N, 3), and which of them do, (N,)."""
    hit = torch.zeros(len(points), dtype=torch.bool)
    gone = torch.zeros(len(points))
    alive = torch.arange(len(points))
    for _ in range(_STEPS):
        distance = _sample(volume, points[alive])
        arrived = distance < 0.004
        hit[alive[arrived]] = True
        step = distance.clamp(min=0.004)
        points[alive] += torch.where(arrived, 0.0, step)[:, None] * directions[alive]
        gone[alive] += step
        alive = alive[~arrived & (gone[alive] < 2 * _REACH)]
        if not len(alive):
            break
    return points, hit


def _sample(volume: Tensor, points: Tensor) -> Tensor:
    """The field at points (N, 3) by trilinear interpolation: (N,). Outside is as at the border."""
    side = volume.shape[-1]
    # The last voxel lies at 1 - 2 / R; grid_sample's corners are at the outermost voxels. Its
    # order is (z, y, x): the last axis of the volume first.
    scaled = ((points + 1) / 2 * side / (side - 1) * 2 - 1).flip(-1)
    values = F.grid_sample(
        volume, scaled[None, None, None], padding_mode="border", align_corners=True
    )
    return values[0, 0, 0, 0]


def _normals(volume: Tensor, points: Tensor) -> Tensor:
    """Normalised central differences, half a voxel to either side: (N, 3)."""
    shift = 1 / volume.shape[-1]
    offsets = torch.eye(3) * shift
    gradient = torch.stack(
        [_sample(volume, points + by) - _sample(volume, points - by) for by in offsets], dim=1
    )
    return F.normalize(gradient, dim=1)


def _shade(normals: Tensor) -> Tensor:
    """Colours of points with these normals in the camera's axes: (N, 3)."""
    light = torch.full((len(normals), 3), _AMBIENT)
    for direction, colour in _LIGHTS:
        towards = F.normalize(torch.tensor(direction), dim=0)
        light += (normals @ towards).clamp(min=0)[:, None] * torch.tensor(colour)
    return light * torch.tensor(_BODY)


def _camera(view: View) -> tuple[Tensor, Tensor]:
    """The eye, and axes as rows: right, up, towards the eye."""
    around, above = np.radians(view.azimuth), np.radians(view.elevation)
    back = np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
    right = np.array([np.cos(around), 0.0, -np.sin(around)])
    axes = np.stack([right, np.cross(back, right), back])
    return torch.from_numpy((back * _DISTANCE).astype(np.float32)), torch.from_numpy(
        axes.astype(np.float32)
    )


def _directions(axes: Tensor, side: int) -> Tensor:
    """Unit vectors through the pixels, row by row from the top left: (side^2, 3)."""
    reach = np.tan(_FIELD_OF_VIEW / 2)
    steps = ((torch.arange(side) + 0.5) / side * 2 - 1) * reach
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    local = torch.stack([across, -down, -torch.ones_like(down)], dim=-1).reshape(-1, 3)
    return F.normalize(local @ axes, dim=1)
