"""The pipeline as training begins with it: its blocks nearly those of a plain transformer."""

from __future__ import annotations

import torch
from torch import nn

from bernini.config import Config
from bernini.denoiser import Denoiser
from bernini.pipeline import PIPELINES, MeshPipeline

from .autoencoder import Autoencoder

__all__ = ["fill_decoder", "untrained"]


def untrained(config: Config, condition: str, seed: int) -> MeshPipeline:
    """Layers as torch initialises them, learned positions small, modulation at rest."""
    torch.manual_seed(seed)
    pipeline = PIPELINES[condition](config)
    with torch.no_grad():
        for module in pipeline.modules():
            for parameter in module.parameters(recurse=False):
                # The layers of torch have filled theirs; what is ours is made empty.
                if not module.__class__.__module__.startswith("torch."):
                    parameter.normal_(0, 0.02)
        _rest(pipeline.denoiser)
    return pipeline


def fill_decoder(pipeline: MeshPipeline, autoencoder: Autoencoder, scale: torch.Tensor) -> None:
    """Give the pipeline the trained decoder.

    Latents of the pipeline have unit variance, and its coefficients are what they are, so the
    factors between these and what the autoencoder works on go into the outermost layers.

    Args:
        pipeline: whose decoder is filled.
        autoencoder: trained.
        scale: (4,) of each channel of the autoencoder's latents.
    """
    decoder = pipeline.decoder
    decoder.load_state_dict(autoencoder.decoder.state_dict())
    with torch.no_grad():
        decoder.codes /= scale
        decoder.first.weight *= scale[:, None, None, None]
        decoder.last.weight *= autoencoder.scale[..., None]
        decoder.last.bias *= autoencoder.scale.flatten()
        decoder.last.bias += autoencoder.mean.flatten()


def _rest(denoiser: Denoiser) -> None:
    """No shift, no scale, gates open."""
    for block in denoiser.blocks:
        _constant(block.modulation, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    for block in (*denoiser.down, *denoiser.up):
        _constant(block.modulation, [0.0, 0.0])
        _constant(block.gate, [1.0])
    for gate in denoiser.skip_gates:
        _constant(gate, [1.0])


def _constant(layer: nn.Linear, values: list[float]) -> None:
    """Make a layer give constants, whatever goes in: equal parts of its outputs, one value each."""
    layer.weight.zero_()
    layer.bias.copy_(torch.tensor(values).repeat_interleave(layer.out_features // len(values)))
