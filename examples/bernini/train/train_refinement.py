"""Trains the decoder on, on latents as the diffusion makes them of pictures.

The autoencoder's decoder has seen latents that are right but for a little noise. Those of the
diffusion are wrong in ways of their own, and what the decoder makes of a wrong latent can be
learned, too: the field that is nearest to the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bernini.pipeline import MeshPipeline

from .beginning import fill_decoder
from .dataset import Dataset
from .keeping import made_once
from .running import Run, learning_rate
from .sampling import sample
from .train_autoencoder import Coder, field_loss, fields_of, iou
from .train_diffusion import encode_all, scale_of

__all__ = ["RefinementSettings", "train_refinement"]


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

    def sampled_of(shapes: Dataset, count: int) -> Tensor:
        made = sample(pipeline, shapes, min(count, len(shapes.fields)), settings.seed)
        return made * scale[:, None, None, None]

    checked = sampled_of(held_out, 32)
    made = torch.empty(0)
    if run.step < settings.steps:
        made = made_once(kept, scale.device, lambda: sampled_of(dataset, settings.samples))

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
