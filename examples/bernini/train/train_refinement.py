"""Trains the decoder on, on latents as the diffusion makes them of pictures.

The autoencoder's decoder has seen latents that are right but for a little noise. Those of the
diffusion are wrong in ways of their own, and what the decoder makes of a wrong latent can be
learned, too: the field that is nearest to the true one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bernini.pipeline import MeshPipeline

from .beginning import fill_decoder
from .dataset import Dataset
from .running import Run, float_attention, half_precision, learning_rate
from .train_autoencoder import Coder, field_loss, fields_of, iou
from .train_diffusion import condition_of, encode_all, scale_of

__all__ = ["RefinementSettings", "train_refinement"]

_SAMPLED_AT_ONCE = 16
#: As the pipeline samples unless told otherwise.
_STEPS, _GUIDANCE_SCALE = 5, 1.8


@dataclass(frozen=True)
class RefinementSettings:
    """How the decoder is trained on.

    Attributes:
        steps: with a batch each, half of it of the diffusion's latents, half of true ones.
        samples: how many shapes the diffusion makes, once, before the first step.
        batch, peak, seed: as of the autoencoder.
    """

    steps: int = 1200
    samples: int = 2000
    batch: int = 8
    peak: float = 5e-4
    seed: int = 0


def train_refinement(
    coder: Coder,
    pipeline: MeshPipeline,
    dataset: Dataset,
    held_out: Dataset,
    path: Path,
    settings: RefinementSettings,
) -> None:
    """Train the decoder on, or go on with the checkpoint at ``path``, in ``coder`` and
    ``pipeline``.

    What the diffusion makes is kept beside the checkpoint, also if the diffusion is trained on.
    """
    latents = encode_all(coder, dataset, path.with_name("latents.pt"))
    scale = scale_of(latents)
    decoder = coder.model.decoder
    trained = [p for p in decoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, weight_decay=1e-3)
    run = Run(path, {"decoder": decoder, "optimiser": optimiser})
    run.restore()
    kept = path.with_name("samples.pt")
    checked = sample(pipeline, scale, held_out, min(32, len(held_out.fields)), settings.seed)
    made = torch.empty(0)
    if run.step < settings.steps:
        made = _samples(kept, pipeline, scale, dataset, settings)

    def train(step: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, step])
        sampled = rng.integers(len(made), size=settings.batch // 2)
        true = rng.integers(len(latents), size=settings.batch - len(sampled))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.peak)
        fields = fields_of(dataset, np.concatenate([sampled, true]))
        loss = field_loss(coder.decode(torch.cat([made[sampled], latents[true]])), fields)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        return loss

    def check() -> dict[str, float]:
        fields = fields_of(held_out, np.arange(len(checked)))
        with torch.inference_mode():
            return {"held_out_iou": float(iou(coder.decode(checked), fields).mean())}

    run.go(settings.steps, train, check, check_every=100)
    fill_decoder(pipeline, coder.model, scale)


@torch.no_grad()
def sample(
    pipeline: MeshPipeline, scale: Tensor, dataset: Dataset, count: int, seed: int
) -> Tensor:
    """What the diffusion makes of the first ``count`` shapes' first pictures: (count, 4, n, n, n),
    as latents of the autoencoder.
    """
    chunks: list[Tensor] = []
    with torch.random.fork_rng(), half_precision(), float_attention():
        torch.manual_seed(seed)
        for start in range(0, count, _SAMPLED_AT_ONCE):
            pictures = dataset.pictures[start : min(start + _SAMPLED_AT_ONCE, count), 0]
            features = pipeline.encoder(condition_of(pictures))
            chunks.append(pipeline.sample(features, _STEPS, _GUIDANCE_SCALE).float())
    return torch.cat(chunks) * scale[:, None, None, None]


def _samples(
    kept: Path,
    pipeline: MeshPipeline,
    scale: Tensor,
    dataset: Dataset,
    settings: RefinementSettings,
) -> Tensor:
    if kept.exists():
        # Made below; with ``weights_only`` nothing in the file is run.
        return torch.load(kept, map_location=scale.device, weights_only=True)
    count = min(settings.samples, len(dataset.fields))
    made = sample(pipeline, scale, dataset, count, settings.seed)
    partial = kept.with_suffix(".partial")
    torch.save(made, partial)
    os.replace(partial, kept)
    return made
