"""The whole pipeline in plain Python: encoder, guided diffusion loop, decoder, wavelet, mesh."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partitioner.ops import marching_cubes

from .config import LATENT_CHANNELS, Config
from .decoder import Decoder
from .denoiser import Denoiser
from .encoders import build_encoder
from .sampler import Sampler
from .wavelet import InverseWavelet

__all__ = ["PIPELINES", "CloudToMesh", "ImageToMesh", "MeshPipeline", "VoxelsToMesh"]

#: ``vertices`` and ``faces``.
Mesh = dict[str, Tensor] | dict[str, list[Tensor]]


class Context(nn.Module):
    """Adds a learned position to the features; zeros give the unconditional context.

    Shapes: (B, tokens, width) -> same.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(1, tokens, width))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.position


class MeshPipeline(nn.Module):
    """What the three pipelines share; they differ in the encoder and in the defaults."""

    condition: str

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.latent_shape = (LATENT_CHANNELS, config.latent, config.latent, config.latent)
        self.encoder = build_encoder(config, self.condition)
        self.context = Context(config.context_tokens(self.condition), config.encoder_width)
        self.denoiser = Denoiser(config)
        self.decoder = Decoder(config)
        self.wavelet = InverseWavelet(config.low)

    def generate(self, condition: Tensor, steps: int, guidance_scale: float) -> Mesh:
        """A mesh for one picture, cloud or voxel grid, or for each of several.

        Returns:
            ``vertices`` (V, 3) float32 in -1..1 and ``faces`` (F, 3) int32; for several, a list of
            each, since every mesh has its own size.
        """
        latent = self.sample(self.encoder(condition), steps, guidance_scale)
        meshes = [marching_cubes(self.wavelet(row)) for row in self.decoder(latent).split(1)]
        if len(meshes) == 1:
            return meshes[0]
        return {name: [mesh[name] for mesh in meshes] for name in meshes[0]}

    def sample(self, features: Tensor, steps: int, guidance_scale: float) -> Tensor:
        """The diffusion loop with guidance: (B, tokens, width) -> (B, 4, n, n, n)."""
        sampler = Sampler(steps, features.device)
        # Both contexts in one batch: the weights are read once a step.
        contexts = torch.cat([self.context(features), self.context(torch.zeros_like(features))])
        x = torch.randn(features.shape[0], *self.latent_shape, device=features.device)
        for index in range(steps):
            timestep = sampler.timesteps[index : index + 1]
            predicted = self.denoiser(torch.cat([x, x]), timestep, contexts)
            conditional, unconditional = predicted.chunk(2)
            clean = unconditional + guidance_scale * (conditional - unconditional)
            # Not like x: that is drawn in the order of its strides, which convolutions choose.
            noise = torch.randn(x.shape, device=x.device)
            x = sampler.step(index, clean, x, noise)
        return x


class ImageToMesh(MeshPipeline):
    condition = "image"

    def forward(self, image: Tensor, *, steps: int = 5, guidance_scale: float = 1.8) -> Mesh:
        return self.generate(image, steps, guidance_scale)


class CloudToMesh(MeshPipeline):
    condition = "cloud"

    def forward(self, cloud: Tensor, *, steps: int = 8, guidance_scale: float = 1.3) -> Mesh:
        return self.generate(cloud, steps, guidance_scale)


class VoxelsToMesh(MeshPipeline):
    condition = "voxels"

    def forward(self, voxels: Tensor, *, steps: int = 5, guidance_scale: float = 1.5) -> Mesh:
        return self.generate(voxels, steps, guidance_scale)


PIPELINES: dict[str, type[MeshPipeline]] = {
    pipeline.condition: pipeline for pipeline in (ImageToMesh, CloudToMesh, VoxelsToMesh)
}
