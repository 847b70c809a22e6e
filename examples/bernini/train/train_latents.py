"""Trains an encoder for the shipped decoder, to get latents of shapes: the file holds no encoder.

The decoder allows many latents for a shape, and the denoiser knows but one way of writing them. So
the encoder first learns what the image pipeline makes of pictures of some shapes, then is trained
on until the decoder makes the shapes of its latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bernini.config import Config
from bernini.pipeline import MeshPipeline

from .analysis import Wavelet
from .autoencoder import Encoder
from .dataset import Dataset
from .keeping import made_once
from .running import Run, device, half_precision, learning_rate
from .sampling import sample
from .train_autoencoder import coded_iou, field_loss, fields_of

__all__ = ["LatentSettings", "Recovered", "train_latents"]

#: Noise on the latents before they are rounded, as a share of their unit variance.
_NOISE = 0.15


@dataclass(frozen=True)
class LatentSettings:
    """How the encoder is trained.

    Attributes:
        steps: in all.
        taught_steps: those on the image pipeline's latents, before those on fields.
        batch, peak, seed: as of the autoencoder.
    """

    steps: int = 300
    taught_steps: int = 240
    batch: int = 8
    peak: float = 2e-3
    seed: int = 0


class Recovered:
    """The encoder that is trained, and the decoder as it came, between fields and latents of the
    diffusion, whose variance is one.
    """

    def __init__(self, config: Config, pipeline: MeshPipeline, dataset: Dataset) -> None:
        self._pipeline = pipeline
        self._analyse = Wavelet(config.resolution).to(device())
        self.encoder = Encoder(config.autoencoder_width).to(device())
        some = self._analyse(fields_of(dataset, np.arange(min(128, len(dataset.fields)))))
        self._mean = some.mean(dim=(0, 2, 3, 4), keepdim=True)
        self._scale = some.std(dim=(0, 2, 3, 4), keepdim=True)
        reach = pipeline.decoder.codes.abs().amax(dim=0)
        self._reach = reach[:, None, None, None]

    def encode(self, fields: Tensor) -> Tensor:
        """(B, R, R, R) -> (B, 4, n, n, n)."""
        packed = (self._analyse(fields) - self._mean) / self._scale
        with half_precision():
            return self.encoder(packed).float() * self._reach

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, n, n, n) -> (B, R, R, R). The gradient passes as if there were no rounding."""
        decoder = self._pipeline.decoder
        rounded = latents + (decoder.quantise(latents) - latents).detach()
        with half_precision():
            packed = decoder.decode(rounded)
        return torch.stack([self._pipeline.wavelet(row) for row in packed.float().split(1)])


def train_latents(
    config: Config,
    pipeline: MeshPipeline,
    taught: Dataset,
    dataset: Dataset,
    held_out: Dataset,
    path: Path,
    settings: LatentSettings,
) -> Recovered:
    """Train, or go on with the checkpoint at ``path``.

    Args:
        config: of the pipeline.
        pipeline: the image pipeline as it came; nothing of it is trained.
        taught: shapes with pictures, of which the pipeline's latents are learned.
        dataset: shapes of which the fields are learned.
        held_out: shapes that are looked at while training.
        path: of the checkpoint; what the pipeline makes of ``taught`` is kept beside it.
        settings: how.
    """
    torch.manual_seed(settings.seed)
    coder = Recovered(config, pipeline, dataset)
    optimiser = torch.optim.AdamW(coder.encoder.parameters(), weight_decay=1e-3)
    run = Run(path, {"encoder": coder.encoder, "optimiser": optimiser})
    run.restore()
    if run.step >= settings.steps:
        return coder
    aims = made_once(
        path.with_name("taught.pt"),
        device(),
        lambda: sample(pipeline, taught, len(taught.fields), settings.seed),
    )

    def train(step: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, step])
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.peak)
        if step < settings.taught_steps:
            shapes = rng.integers(len(aims), size=settings.batch)
            loss = F.mse_loss(coder.encode(fields_of(taught, shapes)), aims[shapes])
        else:
            fields = fields_of(dataset, rng.integers(len(dataset.fields), size=settings.batch))
            latents = coder.encode(fields)
            generator = torch.Generator().manual_seed(step)
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            loss = field_loss(coder.decode(latents + _NOISE * noise), fields)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(coder.encoder.parameters(), 1.0)
        optimiser.step()
        return loss

    run.go(settings.steps, train, partial(coded_iou, coder, held_out), check_every=100)
    return coder
