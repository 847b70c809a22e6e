"""Whole pipelines planned for Inferentia: nearly all of them on Neuron, the rest for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from partitioner.backends.verdicts import CODES, Rejected
from partitioner.frontend import prepare
from partitioner.modelfile import load_model
from partitioner.planning.graphs import is_op
from partitioner.planning.tables import HostCall
from partitioner.prepared import Prepared
from tests.test_diffusers import dit, stable_diffusion

ROOT = Path(__file__).parents[1]


def bernini(size: str) -> Prepared:
    loaded = load_model(str(ROOT / "examples/bernini/model.py"), {"size": size, "steps": 2})
    return prepare(
        loaded.pipeline,
        loaded.example_inputs,
        inputs=loaded.inputs,
        stages=loaded.stages,
        options=loaded.options,
        target="inf2",
    )


def of_diffusers(make: Callable[[], Any], **changes: Any) -> Prepared:
    pipeline, arguments = make()
    for name, module in changes.items():
        pipeline.register_modules(**{name: module})
    return prepare(pipeline, {**arguments, "output_type": "pt"}, target="inf2")


def wide_dit() -> Any:
    """Two blocks as wide as those of DiT-S: narrower ones are not worth an accelerator's call."""
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(2)
    return DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    ).eval()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: bernini("base"), id="bernini-base", marks=pytest.mark.slow),
        pytest.param(lambda: of_diffusers(stable_diffusion), id="stable-diffusion"),
        pytest.param(lambda: of_diffusers(dit, transformer=wide_dit()), id="dit"),
    ],
)
def test_nearly_all_is_on_neuron_and_the_rest_has_a_reason(make: Callable[[], Prepared]) -> None:
    prepared = make()
    segments = prepared.planned.plan.segments
    nodes = Counter[str]()
    for info in segments.values():
        nodes[info.backend] += info.nodes
    assert nodes["neuron"] >= 0.99 * nodes.total(), nodes
    judge = prepared.judges["neuron"]
    for name, segment in prepared.planned.segments.items():
        if segments[name].backend == "neuron" or isinstance(segment, HostCall):
            continue
        for node in segment.graph.nodes:
            verdict = judge.verdict(node, prepared.target) if is_op(node) else None
            if isinstance(verdict, Rejected):
                assert verdict.code in CODES
                assert verdict.message
                assert verdict.source
