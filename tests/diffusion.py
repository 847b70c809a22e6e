"""Small diffusers models with random weights, and the plain Python loops that drive them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["SCHEDULERS", "LatentPipeline", "dit", "scheduler", "unet", "vae"]


def unet(**changes: Any) -> nn.Module:
    """A UNet2DConditionModel of 0.2 M parameters on 8x8 latents with 4 channels."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
        **changes,
    ).eval()
    # A random network's loop is chaotic in eager torch already: with its own initial weights,
    # noise changed by 1e-6 changes the picture of 50 DDIM steps by 0.7 (by 7e-6 with these). A
    # trained network's is not; small predictions make this one tame.
    torch.nn.init.normal_(model.conv_out.weight, std=0.001)
    return model


def dit(classes: int = 10) -> nn.Module:
    """A class-conditional DiTTransformer2DModel of two blocks on 8x8 latents with 4 channels."""
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(2)
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=classes,
        norm_num_groups=4,
    ).eval()


def vae(**changes: Any) -> nn.Module:
    """An AutoencoderKL whose decoder makes 16x16 pictures of 8x8 latents."""
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        **changes,
    ).eval()


#: name -> constructor arguments of the schedulers that pipelines use.
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "DDPMScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "HeunDiscreteScheduler": {},
    "FlowMatchEulerDiscreteScheduler": {},
}


def scheduler(name: str) -> Any:
    """A fresh scheduler of :data:`SCHEDULERS`."""
    import diffusers

    return getattr(diffusers, name)(**SCHEDULERS[name])


class LatentPipeline(nn.Module):
    """Guided latent diffusion as people write it: a ``for`` over the sampler's timesteps.

    Args:
        denoiser: a UNet (conditioned by ``context`` (1, 4, 16)) or DiT (by ``labels`` (1,)).
        sampler: a diffusers scheduler.
    """

    def __init__(self, denoiser: nn.Module, sampler: Any, decoder: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sampler = sampler
        self.vae = decoder
        self.is_dit = "DiT" in type(denoiser).__name__

    def forward(
        self, condition: torch.Tensor, *, steps: int = 5, guidance: float = 2.0
    ) -> dict[str, torch.Tensor]:
        self.sampler.set_timesteps(steps)
        latents = torch.randn(1, 4, 8, 8) * getattr(self.sampler, "init_noise_sigma", 1.0)
        for t in self.sampler.timesteps:
            both = torch.cat([latents, latents])
            if hasattr(self.sampler, "scale_model_input"):
                both = self.sampler.scale_model_input(both, t)
            plain, guided = self._denoise(both, t, condition).chunk(2)
            predicted = plain + guidance * (guided - plain)
            latents = self.sampler.step(predicted, t, latents).prev_sample
        return {"image": self.vae.decode(latents).sample, "latents": latents}

    def _denoise(
        self, latents: torch.Tensor, t: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        if self.is_dit:
            labels = torch.cat([torch.full_like(condition, 10), condition])
            times = t.expand(2).long()
            return self.denoiser(latents, timestep=times, class_labels=labels).sample
        context = torch.cat([torch.zeros_like(condition), condition])
        return self.denoiser(latents, t, encoder_hidden_states=context).sample
