"""Quality on clouds of shapes that were not trained on."""

from __future__ import annotations

import numpy as np
import torch

from bernini.metrics import chamfer_distance, field_iou
from bernini.pipeline import MeshPipeline

from .baseline import NearestCloud
from .clouds import measured_cloud
from .dataset import Dataset
from .evaluate import Row, mesh_of
from .fields import to_distances
from .running import device

__all__ = ["evaluate_clouds", "field_of_cloud"]


def evaluate_clouds(
    pipeline: MeshPipeline,
    train: tuple[Dataset, np.ndarray],
    held_out: tuple[Dataset, np.ndarray],
    bounds: list[Row],
    steps: int = 8,
    guidance_scale: float = 1.3,
) -> list[Row]:
    """Figures of every held-out shape; the seed of its cloud and of the noise is its number.

    Args:
        pipeline: from a cloud to a mesh.
        train, held_out: shapes, and points of their surfaces (N, points, 3).
        bounds: figures of the same held-out shapes, whose ``autoencoder`` is taken: the decoder is
            the same.
        steps, guidance_scale: of the pipeline.

    Raises:
        ValueError: the bounds are of other shapes.
    """
    shapes, clouds = held_out
    if shapes.names != [row.family for row in bounds]:
        raise ValueError("the bounds are not of these held-out shapes")
    nearest = NearestCloud(*train)
    rows: list[Row] = []
    for index, bound in enumerate(bounds):
        cloud = measured_cloud(clouds[index], index)
        truth = to_distances(shapes.fields[index])
        fields = {
            "pipeline": field_of_cloud(pipeline, cloud, index, steps, guidance_scale),
            "nearest": to_distances(nearest.field(cloud)),
        }
        surface = mesh_of(truth)
        iou = {name: field_iou(field, truth) for name, field in fields.items()}
        far = {name: chamfer_distance(mesh_of(f), surface) for name, f in fields.items()}
        rows.append(
            Row(
                bound.family,
                iou | {"autoencoder": bound.iou["autoencoder"]},
                far | {"autoencoder": bound.chamfer["autoencoder"]},
            )
        )
    return rows


@torch.inference_mode()
def field_of_cloud(
    pipeline: MeshPipeline,
    cloud: np.ndarray,
    seed: int,
    steps: int = 8,
    guidance_scale: float = 1.3,
) -> np.ndarray:
    """The field that the pipeline makes of a cloud (points, 3): (R, R, R)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = pipeline.encoder(torch.from_numpy(cloud)[None].to(device()))
        latent = pipeline.sample(features, steps, guidance_scale)
    return pipeline.wavelet(pipeline.decoder(latent)).cpu().numpy()
