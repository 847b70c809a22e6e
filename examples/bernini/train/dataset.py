"""Shapes and their pictures on disk, made once: the same for the same seed and settings."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .families import draw_shape
from .fields import field_of, to_bytes, to_distances
from .pictures import View, draw_picture, draw_view
from .solids import Solid

__all__ = ["PICTURE_SIDE", "Dataset", "Recipe", "first_chair", "make_dataset", "make_shape"]

#: Shapes that share nothing: to measure the end with, to train on, to look at while training.
_SPLITS = ("held-out", "train", "check")

#: Half the side that the pipeline takes: pictures are doubled when they are used.
PICTURE_SIDE = 112


@dataclass(frozen=True)
class Recipe:
    """What a data set depends on. Its ``split`` is ``train``, ``check`` or ``held-out``; without
    ``views`` there are the same shapes, and no pictures of them.
    """

    count: int = 4000
    views: int = 2
    resolution: int = 64
    seed: int = 0
    split: str = "train"


@dataclass(frozen=True)
class Dataset:
    """Arrays mapped from disk.

    Attributes:
        fields: (N, R, R, R) int8, see ``fields.to_bytes``.
        pictures: (N, views, 112, 112, 3) uint8.
        names: the family of each shape.
    """

    fields: np.ndarray
    pictures: np.ndarray
    names: list[str]


def make_shape(recipe: Recipe, index: int) -> tuple[str, np.ndarray, np.ndarray]:
    """One shape: its family, its field in bytes and its pictures (views, 112, 112, 3)."""
    rng = _random(recipe, index)
    name, solid = draw_shape(rng)
    field = to_bytes(field_of(solid, recipe.resolution))
    seen = to_distances(field)
    pictures = np.empty((recipe.views, PICTURE_SIDE, PICTURE_SIDE, 3), np.uint8)
    for view in range(recipe.views):
        pictures[view] = draw_picture(seen, draw_view(rng), PICTURE_SIDE)
    return name, field, pictures


def first_chair(recipe: Recipe) -> tuple[Solid, View]:
    """The first chair of a recipe, and the view of its first picture."""
    for rng in (_random(recipe, index) for index in range(recipe.count)):
        name, solid = draw_shape(rng)
        if name == "chair":
            return solid, draw_view(rng)
    raise ValueError(f"there is no chair among {recipe.count} shapes")


def make_dataset(folder: Path, recipe: Recipe) -> Dataset:
    """The data set in ``folder``, which is filled unless it has been for this recipe."""
    done = folder / "recipe.json"
    if not done.exists() or json.loads(done.read_text())["recipe"] != asdict(recipe):
        _fill(folder, recipe, done)
    return Dataset(
        np.load(folder / "fields.npy", mmap_mode="r"),
        np.load(folder / "pictures.npy", mmap_mode="r"),
        json.loads(done.read_text())["names"],
    )


def _fill(folder: Path, recipe: Recipe, done: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    cube = (recipe.resolution,) * 3
    flat = (recipe.views, PICTURE_SIDE, PICTURE_SIDE, 3)
    fields = _array(folder / "fields.npy", "i1", (recipe.count, *cube))
    pictures = _array(folder / "pictures.npy", "u1", (recipe.count, *flat))
    names: list[str] = []
    start = time.monotonic()
    for index in range(recipe.count):
        name, fields[index], pictures[index] = make_shape(recipe, index)
        names.append(name)
        if (index + 1) % 200 == 0:
            print(f"{index + 1} of {recipe.count} shapes, {time.monotonic() - start:.0f} s")
    fields.flush()
    pictures.flush()
    # Last, since it is what says that the rest is whole.
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps({"recipe": asdict(recipe), "names": names}))
    os.replace(partial, done)


def _random(recipe: Recipe, index: int) -> np.random.Generator:
    return np.random.default_rng([recipe.seed, _SPLITS.index(recipe.split), index])


def _array(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
