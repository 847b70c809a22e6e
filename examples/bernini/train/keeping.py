"""What a training keeps on disk, to go on from: files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["load_kept", "made_once", "save_whole"]


def save_whole(state: Any, path: Path) -> None:
    """Write tensors, numbers and lists of them, in dicts or not; replaces what is there."""
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, partial)
    os.replace(partial, path)


def load_kept(path: Path, where: torch.device) -> Any:
    """What :func:`save_whole` has written."""
    # A checkpoint may come from another machine: with ``weights_only`` nothing in it is run.
    return torch.load(path, map_location=where, weights_only=True)


def made_once(path: Path, where: torch.device, make: Callable[[], Tensor]) -> Tensor:
    """A tensor that takes long to make, from its file if it is there."""
    if path.exists():
        return load_kept(path, where)
    made = make()
    save_whole(made, path)
    return made
