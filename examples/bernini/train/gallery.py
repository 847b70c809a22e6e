"""A picture of held-out shapes: what the pipeline was shown, what it made, what it should have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bernini.pipeline import MeshPipeline
from bernini.render import save_picture

from .baseline import NearestCloud, NearestPicture
from .clouds import measured_cloud
from .dataset import PICTURE_SIDE, Dataset
from .evaluate import generate_field
from .evaluate_cloud import field_of_cloud
from .fields import TRUNCATION, to_distances
from .pictures import View, draw_picture, draw_points

__all__ = ["draw_cloud_gallery", "draw_gallery"]

#: All results are seen from here, wherever their pictures were taken from.
_VIEW = View(35, 25)


def draw_gallery(
    path: Path,
    pipeline: MeshPipeline,
    train: Dataset,
    held_out: Dataset,
    count: int = 12,
    steps: int = 5,
    guidance_scale: float = 1.8,
) -> None:
    """A column for each of the first ``count`` shapes; from the top: the picture, what the pipeline
    makes of it, the true shape, the training shape with the nearest picture.
    """
    nearest = NearestPicture(train)
    columns: list[np.ndarray] = []
    for index in range(count):
        picture = held_out.pictures[index, 0]
        fields = (
            generate_field(pipeline, picture, index, steps, guidance_scale),
            to_distances(held_out.fields[index]),
            to_distances(nearest.field(picture)),
        )
        columns.append(_column(picture, fields))
    save_picture(path, np.concatenate(columns, axis=1))


def draw_cloud_gallery(
    path: Path,
    pipeline: MeshPipeline,
    train: tuple[Dataset, np.ndarray],
    held_out: tuple[Dataset, np.ndarray],
    count: int = 12,
) -> None:
    """The same for clouds, which are drawn as points, and the training shape with the nearest one.

    Args:
        path: of the PNG.
        pipeline: from a cloud to a mesh.
        train, held_out: shapes, and points of their surfaces (N, points, 3).
        count: of columns.
    """
    nearest = NearestCloud(*train)
    columns: list[np.ndarray] = []
    for index in range(min(count, len(held_out[0].fields))):
        cloud = measured_cloud(held_out[1][index], index)
        fields = (
            field_of_cloud(pipeline, cloud, index),
            to_distances(held_out[0].fields[index]),
            to_distances(nearest.field(cloud)),
        )
        columns.append(_column(draw_points(cloud, _VIEW, PICTURE_SIDE), fields))
    save_picture(path, np.concatenate(columns, axis=1))


def _column(given: np.ndarray, fields: Iterable[np.ndarray]) -> np.ndarray:
    cut = (field.clip(-TRUNCATION, TRUNCATION) for field in fields)
    return np.concatenate([given, *(draw_picture(field, _VIEW, PICTURE_SIDE) for field in cut)])
