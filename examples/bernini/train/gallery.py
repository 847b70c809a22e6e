"""A picture of held-out shapes: what the pipeline was shown, what it made, what it should have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bernini.pipeline import MeshPipeline
from bernini.render import save_picture

from .baseline import NearestPicture
from .dataset import PICTURE_SIDE, Dataset
from .evaluate import generate_field
from .fields import TRUNCATION, to_distances
from .pictures import View, draw_picture

__all__ = ["draw_gallery"]

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
        cut = (field.clip(-TRUNCATION, TRUNCATION) for field in fields)
        drawn = [draw_picture(field, _VIEW, PICTURE_SIDE) for field in cut]
        columns.append(np.concatenate([picture, *drawn]))
    save_picture(path, np.concatenate(columns, axis=1))
