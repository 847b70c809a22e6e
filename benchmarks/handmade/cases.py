"""Pipelines as a user cuts them by hand, and the same as ``partition build`` takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handmade.drivers import Array

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "examples"), str(ROOT / "benchmarks")]

__all__ = ["CASES", "Case", "make_case"]


@dataclass(frozen=True)
class Case:
    """A pipeline in both forms.

    Attributes:
        modules: what is compiled by hand.
        examples: by module, the tensors of a call.
        data: what the case's driver needs besides.
        build: what :func:`partitioner.build` takes.
        request: the inputs of one request to the bundle; the driver has the same in ``data``.
    """

    modules: dict[str, nn.Module]
    examples: dict[str, tuple[Tensor, ...]]
    data: dict[str, Array]
    build: dict[str, Any]
    request: dict[str, Array]


class _Contexts(nn.Module):
    """Both contexts of the guidance from a picture."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.encoder, self.context = pipeline.encoder, pipeline.context

    def forward(self, image: Tensor) -> Tensor:
        features = self.encoder(image)
        return torch.cat([self.context(features), self.context(torch.zeros_like(features))])


def _bernini(size: str) -> Case:
    """The example, from a picture to a mesh, in five steps."""
    from bernini.sampler import Sampler
    from partitioner.modelfile import load_model

    steps, path = 5, ROOT / "examples" / "bernini" / "model.py"
    model = load_model(str(path), {"size": size, "steps": steps})
    pipeline: Any = model.pipeline
    image: Tensor = model.example_inputs["image"]
    encoder, shape = _Contexts(pipeline).eval(), (1, *pipeline.latent_shape)
    contexts, packed = encoder(image), pipeline.decoder(torch.zeros(shape))
    sampler = Sampler(steps)
    tables = ("timesteps", "clean_weight", "noisy_weight", "sigma")
    return Case(
        modules={
            "encoder": encoder,
            "denoiser": pipeline.denoiser,
            "decoder": pipeline.decoder,
            "wavelet": pipeline.wavelet,
        },
        examples={
            "encoder": (image,),
            "denoiser": (torch.randn(2, *shape[1:]), torch.tensor([999.0]), contexts),
            "decoder": (torch.randn(shape),),
            "wavelet": (packed,),
        },
        data={
            "image": image.numpy(),
            "guidance": np.asarray(1.8),
            "latent_shape": np.asarray(shape),
            **{name: getattr(sampler, name).numpy() for name in tables},
        },
        build={
            "module": pipeline,
            "example_inputs": model.example_inputs,
            "inputs": model.inputs,
            "options": model.options,
        },
        request={"image": image.numpy()},
    )


def _schedule(steps: int) -> dict[str, Array]:
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler()
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.numpy()
    here = scheduler.alphas_cumprod.numpy()[times]
    after = np.append(here[1:], scheduler.final_alpha_cumprod.numpy())
    return {"times": times, "here": here, "after": after, "shape": np.asarray([1, 4, 32, 32])}


class _Sample(nn.Module):
    """The tensor of a diffusers transformer's answer."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        return self.transformer(x, timestep=time, class_labels=label).sample


def _dit() -> Case:
    """A class-conditional DiT: 12 blocks, 384 wide, latents of 4 x 32 x 32, batch 1."""
    import hoisting

    steps, label = 10, torch.tensor([7])
    pipeline = hoisting.DiT().eval()
    return Case(
        modules={"model": _Sample(pipeline.transformer).eval()},
        examples={"model": (torch.randn(1, 4, 32, 32), torch.tensor([981]), label)},
        data={"condition": label.numpy(), **_schedule(steps)},
        build={"module": pipeline, "example_inputs": {"label": label}, "options": {"steps": steps}},
        request={"label": label.numpy()},
    )


class _Conditioned(nn.Module):
    """The tensor of a diffusers UNet's answer."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return self.unet(x, time, text).sample


class _GuidedUNet(nn.Module):
    """The UNet with its loop, as a user writes it."""

    def __init__(self, steps: int, guidance: float) -> None:
        from diffusers import DDIMScheduler, UNet2DConditionModel

        super().__init__()
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=4,
            out_channels=4,
            block_out_channels=(64, 128, 256),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=256,
            attention_head_dim=8,
        )
        self.register_buffer("empty", torch.zeros(1, 77, 256))
        self.scheduler = DDIMScheduler()
        self.steps, self.guidance = steps, guidance

    def forward(self, text: Tensor) -> Tensor:
        self.scheduler.set_timesteps(self.steps)
        contexts = torch.cat([text, self.empty])
        x = torch.randn(1, 4, 32, 32)
        for time in self.scheduler.timesteps:
            noise = self.unet(torch.cat([x, x]), time[None], contexts).sample
            conditional, unconditional = noise.chunk(2)
            noise = unconditional + self.guidance * (conditional - unconditional)
            x = self.scheduler.step(noise, time, x).prev_sample
        return x


def _unet() -> Case:
    """A text-conditional UNet: 64 to 256 channels, latents of 4 x 32 x 32, guidance."""
    steps, guidance = 10, 5.0
    pipeline = _GuidedUNet(steps, guidance).eval()
    text = torch.randn(1, 77, 256, generator=torch.Generator().manual_seed(0))
    contexts = torch.cat([text, torch.zeros_like(text)])
    example = (torch.randn(2, 4, 32, 32), torch.tensor([981]), contexts)
    return Case(
        modules={"model": _Conditioned(pipeline.unet).eval()},
        examples={"model": example},
        data={
            "condition": contexts.numpy(),
            "guidance": np.asarray(guidance),
            **_schedule(steps),
        },
        # Guidance of a model that has learned nothing amplifies rounding: 2e-3 in float32.
        build={"module": pipeline, "example_inputs": {"text": text}, "tolerance": 1e-2},
        request={"text": text.numpy()},
    )


CASES: dict[str, Callable[[], Case]] = {
    "bernini-tiny": lambda: _bernini("tiny"),
    "bernini-base": lambda: _bernini("base"),
    "dit": _dit,
    "unet": _unet,
}


def make_case(name: str) -> Case:
    """The case of this name, weights and all; equal in every process."""
    torch.manual_seed(0)
    with torch.no_grad():
        return CASES[name]()
