"""Ancestral sampling of a denoising diffusion model (DDPM, arXiv 2006.11239) in a few steps.

Trained on 1000 timesteps with the cosine schedule (arXiv 2102.09672), sampled on a few of them,
evenly spaced; the model predicts the clean sample.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["TRAIN_STEPS", "Sampler", "cumulative_alphas", "spaced_timesteps"]

TRAIN_STEPS = 1000


class Sampler:
    """The constants of every step.

    Attributes:
        timesteps: (steps,), descending: 999, 749, 500, 250, 0 for five steps.
        clean_weight, noisy_weight: (steps,) weights of the posterior's mean.
        sigma: (steps,) the posterior's standard deviation; 0 at the last step.
    """

    def __init__(self, steps: int, device: torch.device | None = None) -> None:
        timesteps = spaced_timesteps(steps)
        alphas = cumulative_alphas()
        here = alphas[timesteps]
        # The step after the last is the clean sample.
        after = np.append(alphas[timesteps[1:]], 1.0)
        beta = 1 - here / after

        def table(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.timesteps = table(timesteps)
        self.clean_weight = table(np.sqrt(after) * beta / (1 - here))
        self.noisy_weight = table(np.sqrt(here / after) * (1 - after) / (1 - here))
        self.sigma = table(np.sqrt(beta * (1 - after) / (1 - here)))

    def step(self, index: int, clean: Tensor, noisy: Tensor, noise: Tensor) -> Tensor:
        """From one noise level to the next: the posterior's mean plus noise.

        Args:
            index: of the step, from 0.
            clean: what the model predicts.
            noisy: the sample at this step.
            noise: standard normal. The last step takes it times 0, so all steps have the same ops.
        """
        mean = self.clean_weight[index] * clean + self.noisy_weight[index] * noisy
        return mean + self.sigma[index] * noise


def spaced_timesteps(steps: int) -> np.ndarray:
    """``steps`` timesteps from 999 down to 0, evenly spaced and rounded."""
    if not 1 <= steps <= TRAIN_STEPS:
        raise ValueError(f"steps must be from 1 to {TRAIN_STEPS}, not {steps}")
    return np.linspace(TRAIN_STEPS - 1, 0, steps).round().astype(np.int64)


def cumulative_alphas() -> np.ndarray:
    """How much of the signal's variance is left at each of the 1000 timesteps, float64."""
    # 0.008 and 0.999 are the paper's: beta neither too small at the start nor singular at the end.
    edges = np.cos((np.arange(TRAIN_STEPS + 1) / TRAIN_STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    return np.cumprod(1 - betas)
