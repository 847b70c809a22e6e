"""How much of a shape hangs on each number of its latents.

At 64³ most of the latent grid lies in the wavelet's margins, where all shapes are alike. A loss
that counts all latents alike mostly teaches what no mesh shows.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .fields import TRUNCATION

__all__ = ["loss_weights"]

#: Shapes that are looked at: the weights hardly change with more.
_SHAPES = 128
_AT_ONCE = 16
#: What the least important latent counts, where the mean is 1. Wrong latents there do no harm
#: one by one, but the decoder has seen none.
_FLOOR = 0.2


class Decodes(Protocol):
    """From latents to fields, with a gradient."""

    def decode(self, latents: Tensor) -> Tensor: ...


def loss_weights(coder: Decodes, latents: Tensor) -> Tensor:
    """Weights of the squared errors of latents, as they show in the field: (4, n, n, n), mean 1.

    The mean over shapes of the diagonal of J^T J, where J is the decoder's Jacobian at what is not
    cut off, estimated as the squares of products of J^T with random vectors (Bekas, Kokiopoulou and
    Saad, "An estimator for the diagonal of a matrix", 2007).

    Args:
        coder: whose decoder is looked at.
        latents: (N, 4, n, n, n) of shapes, as the encoder gives them.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(latents[0])
    for chunk in latents[:_SHAPES].split(_AT_ONCE):
        given = chunk.clone().requires_grad_()
        field = coder.decode(given)
        # Where the field is cut off a change shows nothing.
        vector = torch.randn(field.shape, generator=generator).to(field)
        seen = vector * (field.detach().abs() < TRUNCATION)
        (gradient,) = torch.autograd.grad((field * seen).sum(), given)
        total += gradient.square().sum(dim=0)
    share = total / total.mean()
    return _FLOOR + (1 - _FLOOR) * share
