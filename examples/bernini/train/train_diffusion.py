"""Trains the denoiser and the picture's encoder on the latents of a trained autoencoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bernini.config import IMAGE_SIDE, Config
from bernini.pipeline import MeshPipeline
from bernini.sampler import TRAIN_STEPS, cumulative_alphas, spaced_timesteps

from .beginning import fill_decoder, untrained
from .dataset import Dataset
from .fields import to_distances
from .keeping import load_kept, save_whole
from .running import Average, Run, device, float_attention, half_precision, learning_rate
from .sensitivity import loss_weights
from .train_autoencoder import Coder, iou

__all__ = ["DiffusionSettings", "condition_of", "encode_all", "scale_of", "train_diffusion"]

#: Share of pictures that are withheld, for guidance.
_DROPPED = 0.1
#: Half of the timesteps are drawn from those that the pipeline takes unless told otherwise, but for
#: the last, which has hardly any noise.
_TAKEN = spaced_timesteps(5)[:-1]
#: The others are drawn as 1000 u^0.5: the noisy ones decide what is made.
_LATE = 0.5
_ENCODED_AT_ONCE = 50


class Encodes(Protocol):
    """From fields to latents."""

    @property
    def encoder(self) -> torch.nn.Module: ...
    def encode(self, fields: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DiffusionSettings:
    """How it is trained."""

    steps: int = 10000
    batch: int = 16
    peak: float = 1e-3
    decay: float = 0.999
    seed: int = 0


def train_diffusion(
    config: Config,
    coder: Coder,
    dataset: Dataset,
    held_out: Dataset,
    path: Path,
    settings: DiffusionSettings,
) -> MeshPipeline:
    """Train, or go on with the checkpoint at ``path``, and give the whole pipeline, averaged."""
    latents = encode_all(coder, dataset, path.with_name("latents.pt"))
    weights = loss_weights(coder, latents)
    scale = scale_of(latents)
    latents = latents / scale[:, None, None, None]
    pipeline = untrained(config, "image", settings.seed).to(device())
    fill_decoder(pipeline, coder.model, scale)
    pipeline.decoder.requires_grad_(False)
    trained = [p for p in pipeline.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.peak, betas=(0.9, 0.99), weight_decay=0.01)
    average = Average(pipeline, settings.decay)
    run = Run(path, {"model": pipeline, "optimiser": optimiser, "average": average})
    run.restore()
    alphas = torch.tensor(cumulative_alphas(), dtype=torch.float32)

    def train(step: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, step])
        generator = torch.Generator().manual_seed(step)
        shapes = rng.integers(len(dataset.fields), size=settings.batch)
        views = rng.integers(dataset.pictures.shape[1], size=settings.batch)
        pictures = condition_of(vary(dataset.pictures[shapes, views], rng))
        timesteps = draw_timesteps(settings.batch, generator)
        kept = torch.rand(settings.batch, generator=generator) >= _DROPPED
        clean = latents[shapes]
        noise = torch.randn(clean.shape, generator=generator).to(device())
        share = alphas[timesteps].to(device())[:, None, None, None, None]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.peak)
        with half_precision(), float_attention():
            features = pipeline.encoder(pictures) * kept.to(device())[:, None, None]
            predicted = pipeline.denoiser(
                share.sqrt() * clean + (1 - share).sqrt() * noise,
                timesteps.to(device()),
                pipeline.context(features),
            )
        loss = (weights * (predicted.float() - clean).square()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average.update(step)
        return loss

    def check() -> dict[str, float]:
        return held_out_iou(pipeline, average, held_out)

    run.go(settings.steps, train, check, check_every=500)
    pipeline.load_state_dict(average.values)
    # The decoder may have been trained on since the run began.
    fill_decoder(pipeline, coder.model, scale)
    return pipeline.eval()


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Timesteps to train at: (count,) int64."""
    spread = (TRAIN_STEPS * torch.rand(count, generator=generator) ** _LATE).long()
    chosen = torch.randint(len(_TAKEN), (count,), generator=generator)
    taken = torch.from_numpy(_TAKEN)[chosen]
    return torch.where(torch.arange(count) % 2 == 0, spread, taken)


def condition_of(pictures: np.ndarray) -> Tensor:
    """Pictures (B, 112, 112, 3) uint8 -> what the pipeline takes, (B, 3, 224, 224)."""
    small = torch.tensor(pictures, device=device()).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(small, size=(IMAGE_SIDE, IMAGE_SIDE), mode="bilinear")


def vary(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other light and other colours: each picture's channels by factors about 1."""
    factors = rng.uniform(0.9, 1.1, (len(pictures), 1, 1, 1)) * rng.uniform(
        0.95, 1.05, (len(pictures), 1, 1, 3)
    )
    return (pictures * factors.astype(np.float32)).clip(0, 255).astype(np.uint8)


@torch.inference_mode()
def encode_all(coder: Encodes, dataset: Dataset, path: Path) -> Tensor:
    """The latents of all shapes, (N, 4, n, n, n), kept at ``path`` for as long as the encoder and
    the number of shapes are the same.
    """
    key = [hash_of(coder.encoder), len(dataset.fields)]
    if path.exists():
        kept = load_kept(path, device())
        if kept["key"] == key:
            return kept["latents"]
    starts = range(0, len(dataset.fields), _ENCODED_AT_ONCE)
    chunks = (dataset.fields[start : start + _ENCODED_AT_ONCE] for start in starts)
    latents = torch.cat(
        [coder.encode(torch.from_numpy(to_distances(chunk)).to(device())) for chunk in chunks]
    )
    save_whole({"key": key, "latents": latents}, path)
    return latents


def scale_of(latents: Tensor) -> Tensor:
    """By which latents are divided for the diffusion: (N, 4, n, n, n) -> (4,)."""
    return latents.square().mean(dim=(0, 2, 3, 4)).sqrt()


def hash_of(module: torch.nn.Module) -> str:
    """Of a module's parameters."""
    found = hashlib.sha256()
    for parameter in module.parameters():
        found.update(parameter.detach().cpu().numpy().tobytes())
    return found.hexdigest()


@torch.inference_mode()
def held_out_iou(pipeline: MeshPipeline, average: Average, held_out: Dataset) -> dict[str, float]:
    """Of what the averaged weights make of pictures that were not trained on."""
    kept = {name: parameter.clone() for name, parameter in pipeline.named_parameters()}
    pipeline.load_state_dict(average.values)
    pictures = condition_of(held_out.pictures[:32, 0])
    fields = torch.from_numpy(to_distances(held_out.fields[:32])).to(device())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents = pipeline.sample(pipeline.encoder(pictures), 5, 1.8)
    made = [pipeline.wavelet(pipeline.decoder(row)) for row in latents.split(1)]
    pipeline.load_state_dict(kept)
    return {"held_out_iou": float(iou(torch.stack(made), fields).mean())}
