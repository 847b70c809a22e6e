"""Trains the autoencoder: fields -> wavelet coefficients -> codes -> coefficients -> fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bernini.config import Config
from bernini.wavelet import InverseWavelet

from .analysis import Wavelet
from .autoencoder import Autoencoder, Encoder
from .dataset import Dataset
from .fields import TRUNCATION, to_distances
from .running import Run, device, half_precision, learning_rate

__all__ = [
    "AutoencoderSettings",
    "Coder",
    "Codes",
    "coded_iou",
    "field_loss",
    "fields_of",
    "iou",
    "train_autoencoder",
]

#: How much more an error counts where the distance is not cut off.
_SURFACE = 4.0
#: Noise on the latents before they are rounded, so that codes close by give shapes close by:
#: the diffusion's samples are never exact.
_NOISE = 0.1


@dataclass(frozen=True)
class AutoencoderSettings:
    """How it is trained.

    Attributes:
        steps: of the decoder.
        encoder_steps: after which the encoder stays as it is. The diffusion may begin then, beside
            the decoder's last steps, since these no longer change what a latent means.
        batch: shapes a step.
        peak: the learning rate.
        seed: of the weights and the batches.
    """

    steps: int = 6500
    encoder_steps: int = 5000
    batch: int = 8
    peak: float = 2e-3
    seed: int = 0


class Coder:
    """The autoencoder between fields, as it is while it is trained and afterwards."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.analyse = Wavelet(config.resolution).to(device())
        self.synthesise = InverseWavelet(config.low).to(device())
        some = self.analyse(fields_of(dataset, np.arange(min(256, len(dataset.fields)))))
        mean, scale = some.mean(dim=(0, 2, 3, 4)), some.std(dim=(0, 2, 3, 4))
        self.model = Autoencoder(config, mean, scale).to(device())

    @property
    def encoder(self) -> Encoder:
        return self.model.encoder

    def encode(self, fields: Tensor) -> Tensor:
        """(B, R, R, R) -> (B, 4, n, n, n) between -1 and 1."""
        packed = self.analyse(fields)
        with half_precision():
            return self.model.encode(packed).float()

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, n, n, n) -> (B, R, R, R)."""
        rounded = self.model.round(latents)
        with half_precision():
            packed = self.model.decode(rounded)
        return torch.stack([self.synthesise(row) for row in packed.float().split(1)])


def train_autoencoder(
    config: Config, dataset: Dataset, held_out: Dataset, path: Path, settings: AutoencoderSettings
) -> Coder:
    """Train, or go on with the checkpoint at ``path``, and give the autoencoder."""
    torch.manual_seed(settings.seed)
    coder = Coder(config, dataset)
    parts = [coder.model.encoder, coder.model.decoder]
    optimiser = torch.optim.AdamW(
        [{"params": list(p.parameters())} for p in parts], weight_decay=1e-3
    )
    durations = (settings.encoder_steps, settings.steps)
    run = Run(path, {"model": coder.model, "optimiser": optimiser})
    run.restore()

    def train(step: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, step])
        fields = fields_of(dataset, rng.integers(len(dataset.fields), size=settings.batch))
        generator = torch.Generator().manual_seed(step)
        for group, steps in zip(optimiser.param_groups, durations, strict=True):
            group["lr"] = learning_rate(min(step, steps), steps, settings.peak)
        with torch.set_grad_enabled(step < settings.encoder_steps):
            latents = coder.encode(fields)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        loss = field_loss(coder.decode(latents + _NOISE * noise), fields)
        # Without a gradient, the encoder's parameters are left alone, its weight decay included.
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(coder.model.parameters(), 1.0)
        optimiser.step()
        return loss

    run.go(settings.steps, train, partial(coded_iou, coder, held_out), check_every=200)
    return coder


class Codes(Protocol):
    """From fields to latents and back."""

    def encode(self, fields: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor) -> Tensor: ...


@torch.inference_mode()
def coded_iou(coder: Codes, held_out: Dataset) -> dict[str, float]:
    """How much of the first 16 held-out shapes is left after encoding and decoding."""
    fields = fields_of(held_out, np.arange(min(16, len(held_out.fields))))
    made = coder.decode(coder.encode(fields))
    return {"held_out_iou": float(iou(made, fields).mean())}


def field_loss(made: Tensor, fields: Tensor) -> Tensor:
    """Mean error in truncations, more at the surface; its square where it is small."""
    weight = 1 + _SURFACE * (fields.abs() < TRUNCATION)
    error = F.smooth_l1_loss(made / TRUNCATION, fields / TRUNCATION, beta=0.05, reduction="none")
    return (weight * error).mean()


def iou(made: Tensor, fields: Tensor) -> Tensor:
    """Of what is inside, for each of several fields: (B, R, R, R) twice -> (B,)."""
    one, other = made.flatten(1) < 0, fields.flatten(1) < 0
    return (one & other).sum(1) / (one | other).sum(1).clamp(min=1)


def fields_of(dataset: Dataset, indices: np.ndarray) -> Tensor:
    """Fields of some shapes: (B, R, R, R)."""
    return torch.from_numpy(to_distances(dataset.fields[indices])).to(device())
