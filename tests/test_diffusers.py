"""Diffusers' samplers and whole pipelines, from capture to the bundle's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.capture import capture
from partitioner.errors import CaptureError
from partitioner.plan import Call, Loop, Plan, Step
from tests import diffusion

#: (trips of the loop at 5 steps, at 50 steps). What is missing to the steps is peeled: the last
#: step of DDPM draws no noise, multistep samplers warm up, Heun's last step is Euler's, PNDM makes
#: one call more than it has steps.
TRIPS = {
    "DDIMScheduler": (5, 50),
    "DDPMScheduler": (4, 49),
    "EulerDiscreteScheduler": (5, 50),
    "EulerAncestralDiscreteScheduler": (5, 50),
    "DPMSolverMultistepScheduler": (3, 48),
    "UniPCMultistepScheduler": (3, 48),
    "PNDMScheduler": (2, 47),
    "HeunDiscreteScheduler": (4, 49),
    "FlowMatchEulerDiscreteScheduler": (5, 50),
}


def latent_pipeline(kind: str, sampler: str) -> tuple[Any, dict[str, torch.Tensor]]:
    denoiser = diffusion.dit() if kind == "dit" else diffusion.unet()
    generator = torch.Generator().manual_seed(5)
    condition = torch.tensor([3]) if kind == "dit" else torch.randn(1, 4, 16, generator=generator)
    pipeline = diffusion.LatentPipeline(denoiser, diffusion.scheduler(sampler), diffusion.vae())
    return pipeline, {"condition": condition}


def calls(steps: tuple[Step, ...]) -> list[str]:
    """Names of segments in the order in which the plan mentions them, loops entered once."""
    names: list[str] = []
    for step in steps:
        names += [step.segment] if isinstance(step, Call) else calls(step.body)
    return names


def loops(plan: Plan) -> list[int]:
    return [step.trips for step in plan.steps if isinstance(step, Loop)]


def denoiser_segments(plan: Plan, stage: str) -> set[str]:
    """Segments that loops run and that hold the denoiser's nodes.

    What of it needs no carried value stands before the loop.
    """
    looped = {name for step in plan.steps if isinstance(step, Loop) for name in calls(step.body)}
    return {name for name in looped if stage in plan.segments[name].stages}


def relative(expected: Any, actual: Any) -> float:
    want = np.asarray(expected, np.float64)
    return float(np.linalg.norm(want - actual) / np.linalg.norm(want))


@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize(
    ("kind", "sampler"), [("unet" if i % 2 else "dit", name) for i, name in enumerate(TRIPS)]
)
def test_a_samplers_loop_becomes_a_bundle(
    kind: str, sampler: str, steps: int, tmp_path: Path
) -> None:
    check_sampler(kind, sampler, steps, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize(
    ("kind", "sampler"), [("dit" if i % 2 else "unet", name) for i, name in enumerate(TRIPS)]
)
def test_the_other_denoiser_too(kind: str, sampler: str, steps: int, tmp_path: Path) -> None:
    check_sampler(kind, sampler, steps, tmp_path)


def check_sampler(kind: str, sampler: str, steps: int, tmp_path: Path) -> None:
    pipeline, example = latent_pipeline(kind, sampler)
    # Compared with eager below, and not in the build as well.
    partitioner.build(
        pipeline, example, options={"steps": steps}, output=tmp_path / "b", parity=False
    )
    plan = Bundle.open(tmp_path / "b").manifest.plan
    # The longest loop is the sampler's; two alike steps of a warm-up may make another.
    assert TRIPS[sampler][steps == 50] == max(loops(plan))
    assert 1 == len(denoiser_segments(plan, "denoiser"))

    torch.manual_seed(7)
    with torch.no_grad():
        expected = pipeline(**example, steps=steps)
    with partitioner.load(tmp_path / "b") as pipe:
        actual = pipe(condition=example["condition"].numpy(), seed=7)
    for name, value in expected.items():
        assert relative(value.numpy(), actual[name]) < 1e-4


# --- whole pipelines, unchanged -----------------------------------------------------------------


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def stable_diffusion() -> tuple[Any, dict[str, Any]]:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=diffusion.vae(),
        text_encoder=None,
        tokenizer=None,
        unet=diffusion.unet(),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, {
        "prompt_embeds": numbers(1, 4, 16),
        "negative_prompt_embeds": numbers(1, 4, 16),
        "latents": numbers(1, 4, 8, 8),
        "num_inference_steps": 10,
    }


def dit() -> tuple[Any, dict[str, Any]]:
    from diffusers import DDIMScheduler, DiTPipeline

    # The pipeline takes 1000 for the class of nothing.
    pipeline = DiTPipeline(
        transformer=diffusion.dit(classes=1000), vae=diffusion.vae(), scheduler=DDIMScheduler()
    )
    return pipeline, {"class_labels": [1], "num_inference_steps": 6}


def pixart() -> tuple[Any, dict[str, Any]]:
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    ).eval()
    pipeline = PixArtAlphaPipeline(
        transformer=transformer,
        vae=diffusion.vae(),
        scheduler=DPMSolverMultistepScheduler(),
        text_encoder=None,
        tokenizer=None,
    )
    return pipeline, {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": numbers(1, 4, 32),
        "negative_prompt_embeds": numbers(1, 4, 32),
        "prompt_attention_mask": torch.ones(1, 4),
        "negative_prompt_attention_mask": torch.ones(1, 4),
        "latents": numbers(1, 4, 8, 8),
        "num_inference_steps": 6,
        "use_resolution_binning": False,
    }


def stable_diffusion_3() -> tuple[Any, dict[str, Any]]:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=16,
    ).eval()
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        vae=diffusion.vae(shift_factor=0.1),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    return pipeline, {
        "prompt_embeds": numbers(1, 4, 32),
        "negative_prompt_embeds": numbers(1, 4, 32),
        "pooled_prompt_embeds": numbers(1, 64),
        "negative_pooled_prompt_embeds": numbers(1, 64),
        "latents": numbers(1, 4, 8, 8),
        "num_inference_steps": 6,
    }


each_pipeline = pytest.mark.parametrize(
    ("make", "stage", "trips"),
    [
        (stable_diffusion, "unet", 10),
        (dit, "transformer", 6),
        (pixart, "transformer", 4),
        (stable_diffusion_3, "transformer", 6),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)


@each_pipeline
def test_a_pipeline_of_diffusers_as_it_is(
    make: Any, stage: str, trips: int, tmp_path: Path
) -> None:
    check_pipeline(make, stage, trips, tmp_path)


@pytest.mark.slow
@each_pipeline
def test_the_same_through_openvino(make: Any, stage: str, trips: int, tmp_path: Path) -> None:
    check_pipeline(make, stage, trips, tmp_path, backends=["openvino", "host"])
    artifacts = Bundle.open(tmp_path / "b").manifest.artifacts
    assert {"openvino"} == {artifact.backend for artifact in artifacts.values()}


def check_pipeline(make: Any, stage: str, trips: int, tmp_path: Path, **options: Any) -> None:
    pipeline, arguments = make()
    example = {**arguments, "output_type": "pt"}
    partitioner.build(pipeline, example, output=tmp_path / "b", **options)
    manifest = Bundle.open(tmp_path / "b").manifest
    assert trips in loops(manifest.plan)
    assert 1 == len(denoiser_segments(manifest.plan, stage))

    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(7)
    expected = pipeline(**example).images
    tensors = {k: v.numpy() for k, v in example.items() if isinstance(v, torch.Tensor)}
    with partitioner.load(tmp_path / "b") as pipe:
        actual = pipe(tensors, seed=7)["images"]
    assert relative(expected.numpy(), actual) < 1e-4


def test_a_pipeline_that_ends_in_pictures_says_where_to_cut() -> None:
    pipeline, arguments = stable_diffusion()
    with pytest.raises(CaptureError) as caught:
        capture(pipeline, {**arguments, "output_type": "pil"})
    assert "output_type='pt'" in str(caught.value)


def test_a_prompt_that_needs_a_tokeniser_says_where_to_cut() -> None:
    pipeline, arguments = stable_diffusion()
    rest = {k: v for k, v in arguments.items() if "embeds" not in k}
    with pytest.raises(CaptureError) as caught:
        capture(pipeline, {**rest, "prompt": "a chair", "output_type": "pt"})
    assert "prompt_embeds" in str(caught.value)
