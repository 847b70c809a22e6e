"""Trains an encoder of point clouds for the denoiser and decoder that come with the example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bernini.config import Config
from bernini.encoders import CloudEncoder
from bernini.pipeline import MeshPipeline
from bernini.sampler import cumulative_alphas, spaced_timesteps

from .beginning import untrained
from .clouds import draw_cloud
from .dataset import Dataset
from .running import Average, Run, device, float_attention, half_precision, learning_rate
from .train_autoencoder import fields_of, iou

__all__ = ["CloudSettings", "begin_cloud", "cloud_batch", "train_cloud"]

#: The timesteps that the pipeline takes unless told otherwise. Half of all are drawn from them, the
#: other half are the first, which has nothing but the cloud to go by.
_TAKEN = spaced_timesteps(8)[:-1]
#: How the pipeline samples unless told otherwise.
_STEPS, _GUIDANCE_SCALE = 8, 1.3
#: How sharply the untrained queries attend: as evenly as with 1, all would see the same.
_SHARPNESS = 4.0


@dataclass(frozen=True)
class CloudSettings:
    """How it is trained.

    Attributes:
        steps, batch, peak, seed: as of the diffusion.
        points: of a cloud while it is trained. All that is made of points is means, so that half
            of those that the pipeline takes do, in less time.
        decay: of the average over steps.
    """

    steps: int = 1400
    batch: int = 16
    points: int = 512
    peak: float = 2e-3
    decay: float = 0.995
    seed: int = 0


def begin_cloud(config: Config, image: MeshPipeline, seed: int) -> MeshPipeline:
    """The cloud pipeline with the denoiser and decoder of the image pipeline, and with an encoder
    to be trained; nothing else is.

    Without a condition both pipelines are the same: the positions of the context are those of the
    image, over and over, and all that is made of them is means, by attention or plain.
    """
    pipeline = untrained(config, "cloud", seed)
    pipeline.denoiser.load_state_dict(image.denoiser.state_dict())
    pipeline.decoder.load_state_dict(image.decoder.state_dict())
    pipeline.requires_grad_(False)
    tokens = image.context.position
    pipeline.context.position.copy_(tokens.repeat(1, _times(pipeline, tokens), 1))
    _spread(pipeline.encoder)
    pipeline.encoder.requires_grad_(True)
    return pipeline.to(device())


def train_cloud(
    config: Config,
    image: MeshPipeline,
    latents: Tensor,
    weights: Tensor,
    clouds: np.ndarray,
    check: Callable[[MeshPipeline], dict[str, float]],
    path: Path,
    settings: CloudSettings,
) -> MeshPipeline:
    """Train, or go on with the checkpoint at ``path``, and give the pipeline, averaged.

    Args:
        config: of the pipelines.
        image: whose denoiser and decoder are taken.
        latents: (N, 4, n, n, n) of the shapes, of unit variance.
        weights: (4, n, n, n) by which their errors count.
        clouds: (N, points, 3) of the same shapes, of which some are drawn at every step.
        check: figures on shapes that are not trained on.
        path: of the checkpoint.
        settings: how.
    """
    pipeline = begin_cloud(config, image, settings.seed)
    encoder = pipeline.encoder
    optimiser = torch.optim.AdamW(encoder.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    average = Average(encoder, settings.decay)
    run = Run(path, {"encoder": encoder, "optimiser": optimiser, "average": average})
    run.restore()
    alphas = torch.tensor(cumulative_alphas(), dtype=torch.float32)

    def train(step: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, step])
        generator = torch.Generator().manual_seed(step)
        shapes = rng.integers(len(clouds), size=settings.batch)
        seen = cloud_batch(clouds, shapes, settings.points, rng)
        timesteps = torch.from_numpy(_TAKEN[rng.integers(len(_TAKEN), size=settings.batch)])
        timesteps[::2] = int(_TAKEN[0])
        clean = latents[shapes]
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        share = alphas[timesteps].to(clean)[:, None, None, None, None]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.peak)
        with half_precision(), float_attention():
            predicted = pipeline.denoiser(
                share.sqrt() * clean + (1 - share).sqrt() * noise,
                timesteps.to(device()),
                pipeline.context(encoder(seen)),
            )
        loss = (weights * (predicted.float() - clean).square()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        average.update(step)
        return loss

    def look() -> dict[str, float]:
        kept = {name: parameter.clone() for name, parameter in encoder.named_parameters()}
        encoder.load_state_dict(average.values)
        figures = check(pipeline)
        encoder.load_state_dict(kept)
        return figures

    run.go(settings.steps, train, look, check_every=250)
    encoder.load_state_dict(average.values)
    return pipeline.requires_grad_(False).eval()


def cloud_batch(
    clouds: np.ndarray, shapes: np.ndarray, count: int, rng: np.random.Generator
) -> Tensor:
    """A cloud of each shape: (B, count, 3)."""
    drawn = np.stack([draw_cloud(clouds[shape], count, rng) for shape in shapes])
    return torch.from_numpy(drawn).to(device())


@torch.inference_mode()
def held_out_iou(
    pipeline: MeshPipeline, clouds: np.ndarray, held_out: Dataset, points: int, count: int = 32
) -> dict[str, float]:
    """Of what a pipeline makes of clouds of shapes that were not trained on."""
    shapes = np.arange(min(count, len(held_out.fields)))
    seen = cloud_batch(clouds, shapes, points, np.random.default_rng(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents = pipeline.sample(pipeline.encoder(seen), _STEPS, _GUIDANCE_SCALE)
    made = [pipeline.wavelet(pipeline.decoder(row)) for row in latents.split(1)]
    return {"held_out_iou": float(iou(torch.stack(made), fields_of(held_out, shapes)).mean())}


def _times(pipeline: MeshPipeline, tokens: Tensor) -> int:
    """How often the image's tokens go into the cloud's."""
    times, rest = divmod(pipeline.context.position.shape[1], tokens.shape[1])
    if rest:
        raise ValueError(f"{tokens.shape[1]} tokens of the image do not divide those of a cloud")
    return times


def _spread(encoder: nn.Module) -> None:
    """Make the untrained queries look at different places, and points that differ look different.

    torch's own layers give nearly the same for all points of a cube of side 2, and all queries
    would begin as one.
    """
    assert isinstance(encoder, CloudEncoder)
    encoder.layers[0].weight.mul_(3.0)
    encoder.queries.normal_()
    encoder.attention.query_norm.weight.mul_(_SHARPNESS)
