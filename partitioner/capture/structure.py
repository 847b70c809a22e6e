"""Nested arguments and results as flat, named tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

__all__ = ["flatten_named", "register_dataclasses", "unflatten_named"]


def register_dataclasses(value: Any) -> None:
    """Tell torch's pytree about the dataclasses in a structure, as torch.export demands."""
    if isinstance(value, dict):
        for item in cast("dict[Any, Any]", value).values():
            register_dataclasses(item)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            register_dataclasses(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if kind not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(kind)
        for field in dataclasses.fields(value):
            register_dataclasses(getattr(value, field.name))


def flatten_named(value: Any, *, root: str | None = None) -> tuple[dict[str, Any], Any]:
    """Leaves by dotted path (``cond.text``, ``items.0``), and the structure.

    Args:
        root: the name of a value that is itself one leaf; also the stem for a plain tuple or list
            (``output.0``).
    """
    pairs, structure = pytree.tree_flatten_with_path(value)
    named: dict[str, Any] = {}
    for path, leaf in pairs:
        parts = [_part(key) for key in path]
        if root is not None and (not parts or isinstance(value, list | tuple) and parts[0].isdigit()):
            parts = [root, *parts]
        named[".".join(parts)] = leaf
    return named, structure


def unflatten_named(leaves: Mapping[str, Any], structure: Any) -> Any:
    """The inverse of :func:`flatten_named`."""
    return pytree.tree_unflatten(list(leaves.values()), structure)


def _part(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
