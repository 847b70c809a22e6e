"""Nested arguments and results as flat, named tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

__all__ = ["named_leaves", "named_tensors", "register_dataclasses", "replace_leaves"]


def register_dataclasses(value: Any) -> bool:
    """Tell torch's pytree about the dataclasses in a structure, as torch.export demands.

    Returns:
        whether there was one that it did not know.
    """
    new = False
    if isinstance(value, dict):
        for item in cast("dict[Any, Any]", value).values():
            new |= register_dataclasses(item)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            new |= register_dataclasses(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if kind not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(kind)
            new = True
        for field in dataclasses.fields(value):
            new |= register_dataclasses(getattr(value, field.name))
    return new


def named_leaves(value: Any, root: str) -> dict[str, Any]:
    """Leaves of a result by name.

    The keys of a dict and the fields of a dataclass or named tuple are names (``images``,
    ``mesh.vertices``); the items of a plain tuple or list are numbered (``output.0``); a single
    tensor is ``root``.
    """
    plain = isinstance(value, list | tuple) and not hasattr(value, "_fields")
    found: dict[str, Any] = {}
    _walk(value, root if plain else "", lambda name, leaf: found.setdefault(name or root, leaf))
    return found


def named_tensors(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors among arguments by name: ``argument``, or ``argument.key`` where nested."""
    found: dict[str, torch.Tensor] = {}

    def visit(name: str, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            found[name] = leaf
        return leaf

    for name, value in values.items():
        _walk(value, name, visit)
    return found


def replace_leaves(value: Any, name: str, replace: Callable[[str, Any], Any]) -> Any:
    """The same structure with each leaf, called ``name.key``, replaced."""
    return _walk(value, name, replace)


def _walk(value: Any, name: str, visit: Callable[[str, Any], Any]) -> Any:
    def inner(key: Any, item: Any) -> Any:
        return _walk(item, f"{name}.{key}" if name else str(key), visit)

    # Before dicts: diffusers' and transformers' output classes are both.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{key: inner(key, item) for key, item in fields.items()})
    if isinstance(value, dict):
        return {key: inner(key, item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = cast("Mapping[str, Any]", cast(Any, value)._asdict())
        return type(value)(**{key: inner(key, item) for key, item in fields.items()})
    if isinstance(value, list | tuple):
        return type(value)(inner(i, item) for i, item in enumerate(cast("list[Any]", value)))
    return visit(name, value)
