"""The cloud's part of the training, from the image's shipped weights to a file, figures, pictures.

It takes nothing but those weights: the latents to train with come of an encoder that is trained
for the shipped decoder first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from bernini.config import SIZES
from bernini.pipeline import MeshPipeline
from bernini.weights import trained

from .clouds import make_clouds
from .dataset import Dataset, Recipe, make_dataset
from .evaluate import Row, summary, write_report
from .evaluate_cloud import evaluate_clouds
from .export import export_encoder
from .gallery import draw_cloud_gallery
from .plots import plot_curves
from .running import device, history_of
from .sensitivity import loss_weights
from .train_cloud import CloudSettings, held_out_iou, train_cloud
from .train_diffusion import encode_all
from .train_latents import LatentSettings, Recovered, train_latents

__all__ = ["CloudTraining"]


@dataclass(frozen=True)
class CloudTraining:
    """One training, whose parts are made when they are asked for and kept in its folder.

    Attributes:
        folder: for data and checkpoints.
        image: the file of the image pipeline's weights.
        figures: those of the image pipeline, of the same held-out shapes: their bounds are taken.
        shapes: how many are trained on.
        taught: of how many of them the image pipeline makes latents.
        held_out: shapes that the figures are of.
        latents, settings: how the two encoders are trained.
        size: of the pipelines.
        seed: of shapes.
    """

    folder: Path
    image: Path
    figures: Path
    shapes: int = 2000
    taught: int = 400
    held_out: int = 64
    latents: LatentSettings = field(default_factory=LatentSettings)
    settings: CloudSettings = field(default_factory=CloudSettings)
    size: str = "small"
    seed: int = 0

    def data(self, split: str, count: int) -> tuple[Dataset, np.ndarray]:
        """Shapes without pictures, and points of their surfaces."""
        folder = self.folder / f"{split}-shapes"
        recipe = Recipe(count, views=0, seed=self.seed, split=split)
        dataset = make_dataset(folder, recipe)
        return dataset, make_clouds(folder / "clouds.npy", dataset)

    def train(self) -> MeshPipeline:
        """Train, or go on with the checkpoints in the folder."""
        checked, seen = self.data("check", self.held_out)
        dataset, clouds = self.data("train", self.shapes)
        points = SIZES[self.size].points
        look = partial(held_out_iou, clouds=seen, held_out=checked, points=points)
        coder = self._coder
        latents = encode_all(coder, dataset, self.folder / "cloud-latents.pt")
        return train_cloud(
            SIZES[self.size],
            self._image,
            latents,
            loss_weights(coder, latents),
            clouds,
            look,
            self._checkpoints["cloud"],
            self.settings,
        )

    def export(self, path: Path) -> None:
        """Write the encoder and its loss curves."""
        pipeline = self.train()
        runs = {name: history_of(file) for name, file in self._checkpoints.items()}
        facts = {f"{name}_steps": str(history[-1]["step"]) for name, history in runs.items()}
        facts |= {"size": self.size, "condition": "cloud", "shapes": str(self.shapes)}
        export_encoder(pipeline, path, self.image, facts)
        plot_curves(path.with_name("cloud-losses.png"), runs)
        print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")

    def evaluate(self, path: Path) -> None:
        """Figures and pictures of the weights in a file."""
        pipeline = trained(SIZES[self.size], "cloud", path).to(device())
        train, held_out = self.data("train", self.shapes), self.data("held-out", self.held_out)
        bounds = [Row(**row) for row in json.loads(self.figures.read_text())["rows"]]
        draw_cloud_gallery(path.with_name("cloud-gallery.png"), pipeline, train, held_out)
        rows = evaluate_clouds(pipeline, train, held_out, bounds)
        figures = summary(rows)
        write_report(path.with_name("cloud-figures.json"), figures, rows)
        print("\n".join(f"{name} {value:.4g}" for name, value in figures.items()))

    @cached_property
    def _image(self) -> MeshPipeline:
        return trained(SIZES[self.size], "image", self.image).to(device())

    @cached_property
    def _coder(self) -> Recovered:
        recipe = Recipe(self.taught, views=1, seed=self.seed)
        return train_latents(
            SIZES[self.size],
            self._image,
            make_dataset(self.folder / "taught", recipe),
            self.data("train", self.shapes)[0],
            self.data("check", self.held_out)[0],
            self._checkpoints["latents"],
            self.latents,
        )

    @property
    def _checkpoints(self) -> dict[str, Path]:
        """Each under the name of its run."""
        return {
            "latents": self.folder / "latents-encoder.pt",
            "cloud": self.folder / "cloud.pt",
        }
