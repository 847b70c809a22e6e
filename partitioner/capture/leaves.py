"""Arguments of ops: their leaves, which are written to, what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

__all__ = ["leaves_of", "map_leaves", "probe", "written_by"]


def written_by(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """The tensors that an op writes to."""
    written: list[torch.Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written += [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]
    return written


def probe(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The op's result on meta tensors: its type without its work."""
    meta = pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), (args, kwargs))
    return func(*meta[0], **meta[1])


def leaves_of(value: Any) -> list[Any]:
    """All leaves, in order."""
    found: list[Any] = []
    map_leaves(found.append, value)
    return found


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same tuples, lists and dicts with other leaves."""
    # Not pytree: dataclasses of the tape are leaves here, whatever is registered elsewhere.
    if isinstance(value, tuple):
        return tuple(map_leaves(function, v) for v in cast("tuple[Any, ...]", value))
    if isinstance(value, list):
        return [map_leaves(function, v) for v in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: map_leaves(function, v) for key, v in items}
    return function(value)
