"""Dtypes for stages, as an option of a pass: ``decoder:float32+denoiser.blocks:bfloat16``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from partitioner.errors import PassError
from partitioner.passes.retyping import dtype_of

__all__ = ["dtypes_by_stage"]


def dtypes_by_stage(default: str, stages: str, who: str) -> Callable[[fx.Node], torch.dtype]:
    """The dtype of a node: that of the longest stage path that it is in.

    Raises:
        PassError: an unknown dtype, or a malformed text.
    """
    known = {"": dtype_of(default, who)}
    for item in stages.split("+") if stages else ():
        path, colon, name = item.rpartition(":")
        if not colon or not path:
            raise PassError(
                f"{who} cannot read {item!r}", advice="write stages as decoder:float32+vae:bf16"
            )
        known[path] = dtype_of(name, who)
    paths = sorted(known, key=len, reverse=True)

    def dtype(node: fx.Node) -> torch.dtype:
        stage = str(node.meta.get("stage", ""))
        inside = (p for p in paths if p == "" or stage == p or stage.startswith(f"{p}."))
        return known[next(inside)]

    return dtype
