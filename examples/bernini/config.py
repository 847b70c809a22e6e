"""Sizes of the pipeline: ``tiny`` for tests, ``small`` with trained weights, ``base`` for one
machine, ``paper`` as published.

The structure is that of wavelet latent diffusion (WaLa, arXiv 2411.08017), written from the
paper's description.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CLOUD_TOKENS",
    "CODES",
    "CONDITIONS",
    "IMAGE_SIDE",
    "LATENT_CHANNELS",
    "PACKED_CHANNELS",
    "PATCH_SIDE",
    "REGISTERS",
    "SIZES",
    "VOXEL_SIDE",
    "Config",
]

CONDITIONS = ("image", "cloud", "voxels")

IMAGE_SIDE = 224
PATCH_SIDE = 14
VOXEL_SIDE = 16
CLOUD_TOKENS = 256
REGISTERS = 4

#: Width of a code, and of the latent grid that the denoiser works on.
LATENT_CHANNELS = 4
CODES = 1024
#: 1 low band, 7 bands of level 0, and 7 bands of level 1 whose grid is twice as fine: 7 * 8.
PACKED_CHANNELS = 64


@dataclass(frozen=True)
class Config:
    """One size of the pipeline.

    Attributes:
        latent: side of the latent grid.
        width, depth, heads: the denoiser's transformer.
        conv_channels, conv_blocks: the residual blocks before the transformer, and after it.
        encoder_width, encoder_depth, encoder_heads: the image encoder. Its width is the context's,
            whatever the condition.
        patch_side: pixels of a patch of the picture.
        autoencoder_width: channels of the autoencoder's decoder.
        points, point_widths: how many points a cloud has, and the layers each goes through.
        voxel_channels, voxel_blocks: the voxel encoder.
    """

    latent: int
    width: int
    depth: int
    heads: int
    conv_channels: int
    conv_blocks: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    autoencoder_width: int
    points: int
    point_widths: tuple[int, ...]
    voxel_channels: int
    voxel_blocks: int
    patch_side: int = PATCH_SIDE

    @property
    def low(self) -> int:
        """Side of the coarsest wavelet band: the latent grid doubled, cropped by 1, doubled."""
        return 2 * (2 * self.latent - 1)

    @property
    def resolution(self) -> int:
        """Side of the signed distance field: three levels of n -> 2n - 16."""
        return 8 * self.low - 112

    def context_tokens(self, condition: str) -> int:
        """Number of tokens the denoiser attends to."""
        return {
            "image": (IMAGE_SIDE // self.patch_side) ** 2,
            "cloud": CLOUD_TOKENS,
            "voxels": (VOXEL_SIDE // 2) ** 3,
        }[condition]

    def input_shape(self, condition: str) -> tuple[int, ...]:
        """Shape of the pipeline's one input."""
        return {
            "image": (1, 3, IMAGE_SIDE, IMAGE_SIDE),
            "cloud": (1, self.points, 3),
            "voxels": (1, 1, VOXEL_SIDE, VOXEL_SIDE, VOXEL_SIDE),
        }[condition]


SIZES = {
    "tiny": Config(
        latent=6,
        width=96,
        depth=2,
        heads=4,
        conv_channels=32,
        conv_blocks=1,
        encoder_width=48,
        encoder_depth=2,
        encoder_heads=4,
        autoencoder_width=16,
        points=1024,
        point_widths=(16, 32, 64),
        voxel_channels=16,
        voxel_blocks=2,
    ),
    # As small in its field as ``tiny``, with as much in it as an hour on two cores can train.
    "small": Config(
        latent=6,
        width=128,
        depth=4,
        heads=4,
        conv_channels=64,
        conv_blocks=1,
        encoder_width=128,
        encoder_depth=3,
        encoder_heads=4,
        autoencoder_width=32,
        points=1024,
        point_widths=(16, 32, 64),
        voxel_channels=16,
        voxel_blocks=2,
        patch_side=28,
    ),
    "base": Config(
        latent=8,
        width=576,
        depth=12,
        heads=8,
        conv_channels=128,
        conv_blocks=3,
        encoder_width=384,
        encoder_depth=12,
        encoder_heads=6,
        autoencoder_width=128,
        points=25000,
        point_widths=(64, 256, 1024),
        voxel_channels=128,
        voxel_blocks=6,
    ),
    "paper": Config(
        latent=12,
        width=1152,
        depth=32,
        heads=16,
        conv_channels=128,
        conv_blocks=3,
        encoder_width=1024,
        encoder_depth=24,
        encoder_heads=16,
        autoencoder_width=128,
        points=25000,
        point_widths=(64, 256, 1024),
        voxel_channels=128,
        voxel_blocks=6,
    ),
}
