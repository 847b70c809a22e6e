"""Point clouds of shapes: points of their surfaces, in the frame of their fields and meshes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from bernini.metrics import surface_points
from partitioner.ops import marching_cubes

from .dataset import Dataset, Recipe, make_shape
from .fields import to_distances

__all__ = ["NOISE", "draw_cloud", "field_cloud", "make_clouds", "measured_cloud", "shape_cloud"]

#: Standard deviation of each coordinate about the surface: a sixth of a voxel at 64³.
NOISE = 0.005
#: Points that are kept of each shape, of which every cloud takes some.
_KEPT = 4096


def make_clouds(path: Path, dataset: Dataset) -> np.ndarray:
    """Points of the surfaces of all shapes, without noise: (N, 4096, 3) float16, mapped from disk.

    They are made once and kept at ``path`` beside the data set that they are of.
    """
    count = len(dataset.fields)
    # Made again with the data set; both are older or younger than each other as a whole.
    made_of = path.with_name("recipe.json")
    if not path.exists() or path.stat().st_mtime_ns < made_of.stat().st_mtime_ns:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        points = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.float16, shape=(count, _KEPT, 3)
        )
        start = time.monotonic()
        for index in range(count):
            points[index] = _surface(dataset.fields[index], index)
            if (index + 1) % 200 == 0:
                print(f"{index + 1} of {count} clouds, {time.monotonic() - start:.0f} s")
        points.flush()
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")


def draw_cloud(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Some of a shape's points, with noise.

    Args:
        points: (N, 3), at least ``count`` of them.
        count: how many are taken.
        rng: of the choice and the noise.

    Returns:
        (count, 3) float32.
    """
    chosen = points[rng.permutation(len(points))[:count]].astype(np.float32)
    return chosen + rng.normal(0, NOISE, chosen.shape).astype(np.float32)


def shape_cloud(recipe: Recipe, index: int, count: int = 1024) -> np.ndarray:
    """The cloud by which a shape is measured, without a data set: (count, 3) float32."""
    _, field, _ = make_shape(recipe, index)
    return field_cloud(field, index, count)


def field_cloud(field: np.ndarray, seed: int, count: int = 1024) -> np.ndarray:
    """A cloud of a field in bytes (R, R, R): (count, 3) float32."""
    return measured_cloud(_surface(field, seed).astype(np.float16), seed, count)


def measured_cloud(points: np.ndarray, index: int, count: int = 1024) -> np.ndarray:
    """The cloud by which a shape is measured: (count, 3) float32.

    Args:
        points: of its surface, as ``make_clouds`` keeps them.
        index: the shape's number, which is the seed.
        count: how many points are taken.
    """
    return draw_cloud(points, count, np.random.default_rng(index))


def _surface(field: np.ndarray, index: int) -> np.ndarray:
    """Points on the surface of a field in bytes, evenly by area: (4096, 3)."""
    mesh = marching_cubes(to_distances(field))
    rng = np.random.default_rng(index)
    return surface_points(mesh["vertices"], mesh["faces"], _KEPT, rng)
