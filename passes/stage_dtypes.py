"""Dtypes for stages, as an option of a pass: ``decoder:float32+denoiser.blocks:bfloat16``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import fx

from partitioner.errors import PassError
from partitioner.passes.retyping import dtype_of

__all__ = ["dtypes_by_stage", "is_inside", "stages_named"]

#: What can be computed and stored in instead of float32.
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def stages_named(stages: str, who: str) -> dict[str, torch.dtype]:
    """The stage paths of an option, with the dtype of each.

    Raises:
        PassError: an unknown dtype, a malformed text, or a stage that is named twice.
    """
    return dict(_read(stages, who))


def is_inside(stage: str, path: str) -> bool:
    """Whether a stage is the one of a path, or a part of it; all are parts of the empty path."""
    return path == "" or stage == path or stage.startswith(f"{path}.")


def dtypes_by_stage(default: str, stages: str, who: str) -> Callable[[fx.Node], torch.dtype]:
    """The dtype of a node: that of the longest stage path that it is in.

    Raises:
        PassError: as :func:`stages_named`.
    """
    known = {"": _float_of(default, who), **stages_named(stages, who)}
    paths = sorted(known, key=len, reverse=True)

    def dtype(node: fx.Node) -> torch.dtype:
        stage = str(node.meta.get("stage", ""))
        return known[next(path for path in paths if is_inside(stage, path))]

    return dtype


def _read(stages: str, who: str) -> Iterator[tuple[str, torch.dtype]]:
    seen: set[str] = set()
    for item in stages.split("+") if stages else ():
        path, colon, name = item.rpartition(":")
        if not colon or not path:
            raise PassError(
                f"{who} cannot read {item!r}", advice="write stages as decoder:float32+vae:bf16"
            )
        if path in seen:
            raise PassError(f"{who} is given two dtypes for {path!r}", advice="leave one out")
        seen.add(path)
        yield path, _float_of(name, who)


def _float_of(name: str, who: str) -> torch.dtype:
    dtype = dtype_of(name, who)
    if dtype not in _FLOATS:
        raise PassError(
            f"{who} cannot compute or store in {name}",
            advice="give float32, bfloat16 or float16",
        )
    return dtype
