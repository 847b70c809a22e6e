"""Writes a trained pipeline to a safetensors file, small enough for a repository."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bernini.pipeline import MeshPipeline

__all__ = ["export"]

#: Kept in float32: the coefficients' details are small numbers beside large ones.
_EXACT = "decoder."


def export(pipeline: MeshPipeline, path: Path, facts: dict[str, str]) -> None:
    """Write the weights in float16, the decoder's in float32.

    Args:
        pipeline: trained.
        path: of the file.
        facts: go into the file's header.
    """
    from safetensors.torch import save_file

    weights = {
        name: tensor.detach().cpu().to(torch.float32 if name.startswith(_EXACT) else torch.float16)
        for name, tensor in pipeline.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial, facts)
    os.replace(partial, path)
