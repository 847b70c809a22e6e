"""Writes a trained pipeline to a safetensors file, small enough for a repository."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from bernini.pipeline import MeshPipeline
from bernini.weights import PARTIAL, digest

__all__ = ["export", "export_encoder"]

#: Kept in float32: the coefficients' details are small numbers beside large ones.
_EXACT = "decoder."


def export(pipeline: MeshPipeline, path: Path, facts: dict[str, str]) -> None:
    """Write the weights in float16, the decoder's in float32.

    Args:
        pipeline: trained.
        path: of the file.
        facts: go into the file's header.
    """
    weights = {
        name: tensor.detach().cpu().to(torch.float32 if name.startswith(_EXACT) else torch.float16)
        for name, tensor in pipeline.state_dict().items()
    }
    _write(weights, path, facts)


def export_encoder(pipeline: MeshPipeline, path: Path, rest: Path, facts: dict[str, str]) -> None:
    """Write what depends on the condition in float16: the encoder and its positions.

    Args:
        pipeline: trained with the denoiser and decoder of ``rest``.
        path: of the file, in the folder of ``rest``.
        rest: the file that has all else; the header names it and its digest.
        facts: go into the file's header.

    Raises:
        ValueError: the files are not in one folder.
    """
    if path.resolve().parent != rest.resolve().parent:
        raise ValueError(f"{path} belongs beside {rest}, which has the rest of its weights")
    weights = {
        name: tensor.detach().cpu().half()
        for name, tensor in pipeline.state_dict().items()
        if name.startswith(PARTIAL)
    }
    _write(weights, path, facts | {"rest": rest.name, "rest_sha256": digest(rest)})


def _write(weights: dict[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial, facts)
    os.replace(partial, path)
