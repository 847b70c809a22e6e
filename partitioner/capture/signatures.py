"""Arguments of calls, made hashable: equal signatures stand for calls that are the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

from partitioner.program import TensorType

__all__ = ["freeze", "signature"]


def freeze(value: Any) -> Hashable:
    """A hashable stand-in for a structure of arguments; equal ones stand for equal arguments."""
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return (type(items).__name__, *(freeze(item) for item in items))
    if isinstance(value, dict):
        return ("dict", *((key, freeze(item)) for key, item in cast("Any", value).items()))
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    try:
        hash(value)
    except TypeError:
        return ("repr", repr(value))
    # 1, 1.0 and True are equal to Python, not to an op.
    return (type(value).__name__, value)


def signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, list[Any], Any]:
    """(hashable signature, flat leaves, structure) of a call."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    parts = [
        TensorType.of(leaf) if isinstance(leaf, torch.Tensor) else freeze(leaf) for leaf in leaves
    ]
    return (str(spec), *parts), leaves, spec
