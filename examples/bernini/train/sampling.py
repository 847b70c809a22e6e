"""What the diffusion makes of pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from bernini.pipeline import MeshPipeline

from .dataset import Dataset
from .running import float_attention, half_precision
from .train_diffusion import condition_of

__all__ = ["sample"]

_SAMPLED_AT_ONCE = 16
#: As the pipeline samples unless told otherwise.
_STEPS, _GUIDANCE_SCALE = 5, 1.8


@torch.no_grad()
def sample(pipeline: MeshPipeline, dataset: Dataset, count: int, seed: int) -> Tensor:
    """Latents, as the pipeline's decoder takes them, of the first ``count`` shapes' first pictures:
    (count, 4, n, n, n).
    """
    chunks: list[Tensor] = []
    with torch.random.fork_rng(), half_precision(), float_attention():
        torch.manual_seed(seed)
        for start in range(0, count, _SAMPLED_AT_ONCE):
            pictures = dataset.pictures[start : min(start + _SAMPLED_AT_ONCE, count), 0]
            features = pipeline.encoder(condition_of(pictures))
            chunks.append(pipeline.sample(features, _STEPS, _GUIDANCE_SCALE).float())
    return torch.cat(chunks)
