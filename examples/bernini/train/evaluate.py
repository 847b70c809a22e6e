"""Quality on shapes and views that were not trained on.

For each held-out shape there are four meshes: of its own field, of what the autoencoder makes of it
(the best that the diffusion could reach), of what the pipeline makes of its picture, and of the
training shape whose picture is nearest (the baseline).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bernini.metrics import chamfer_distance, field_iou
from bernini.pipeline import MeshPipeline
from partitioner.ops import marching_cubes

from .baseline import NearestPicture
from .dataset import Dataset
from .fields import to_distances
from .train_autoencoder import Coder
from .train_diffusion import condition_of

__all__ = ["CANDIDATES", "Row", "evaluate", "generate_field", "mesh_of", "summary", "write_report"]

CANDIDATES = ("pipeline", "autoencoder", "nearest")


@dataclass(frozen=True)
class Row:
    """One held-out shape: IoU and Chamfer distance by candidate."""

    family: str
    iou: dict[str, float]
    chamfer: dict[str, float]


def evaluate(
    pipeline: MeshPipeline,
    coder: Coder,
    train: Dataset,
    held_out: Dataset,
    steps: int = 5,
    guidance_scale: float = 1.8,
) -> list[Row]:
    """Figures of every held-out shape by its first view; the noise's seed is the shape's number."""
    nearest = NearestPicture(train)
    rows: list[Row] = []
    for index, family in enumerate(held_out.names):
        picture = held_out.pictures[index, 0]
        truth = to_distances(held_out.fields[index])
        fields = {
            "pipeline": generate_field(pipeline, picture, index, steps, guidance_scale),
            "autoencoder": _reconstruct(coder, truth),
            "nearest": to_distances(nearest.field(picture)),
        }
        surface = mesh_of(truth)
        rows.append(
            Row(
                family,
                {name: field_iou(field, truth) for name, field in fields.items()},
                {name: chamfer_distance(mesh_of(f), surface) for name, f in fields.items()},
            )
        )
    return rows


def summary(rows: list[Row]) -> dict[str, float]:
    """Means and medians, and on which share of the shapes the pipeline beats the baseline."""
    figures = {
        f"{measure}_{name}_{word}": float(function([getattr(row, measure)[name] for row in rows]))
        for measure in ("iou", "chamfer")
        for name in CANDIDATES
        for word, function in (("mean", np.mean), ("median", np.median))
    }
    won = [row.chamfer["pipeline"] < row.chamfer["nearest"] for row in rows]
    better = [row.iou["pipeline"] > row.iou["nearest"] for row in rows]
    return figures | {
        "shapes": len(rows),
        "beats_nearest_chamfer": float(np.mean(won)),
        "beats_nearest_iou": float(np.mean(better)),
    }


def write_report(path: Path, figures: dict[str, float], rows: list[Row]) -> None:
    """Write figures, and all that they are of, as JSON."""
    report = {"figures": figures, "rows": [asdict(row) for row in rows]}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1))
    os.replace(partial, path)


@torch.inference_mode()
def generate_field(
    pipeline: MeshPipeline, picture: np.ndarray, seed: int, steps: int, guidance_scale: float
) -> np.ndarray:
    """The field that the pipeline makes of a picture (112, 112, 3): (R, R, R)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = pipeline.encoder(condition_of(picture[None]))
        latent = pipeline.sample(features, steps, guidance_scale)
    return pipeline.wavelet(pipeline.decoder(latent)).cpu().numpy()


@torch.inference_mode()
def _reconstruct(coder: Coder, field: np.ndarray) -> np.ndarray:
    latent = coder.encode(torch.from_numpy(field)[None].to(coder.model.mean.device))
    return coder.decode(latent)[0].cpu().numpy()


def mesh_of(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a field's surface."""
    mesh = marching_cubes(field)
    return mesh["vertices"], mesh["faces"]
