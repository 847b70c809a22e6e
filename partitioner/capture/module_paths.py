"""The modules that a pipeline leads to, by attribute path."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import nn

from partitioner.errors import UsageError

__all__ = ["find_modules"]


def find_modules(pipeline: Any, named: Mapping[str, str] | None = None) -> dict[str, nn.Module]:
    """Every module that a pipeline object leads to, by attribute path, outer ones first.

    A module's children; a diffusers pipeline's components; a function's closure, globals, defaults
    and bound object. ``named`` gives paths other names.

    Raises:
        UsageError: a path in ``named`` leads to no module.
    """
    found = dict(_walk_roots(pipeline))
    for name, path in (named or {}).items():
        if path not in found:
            raise UsageError(
                f"stage {name!r} is said to be {path!r}, which is no module of this pipeline",
                advice=f"paths of this pipeline begin with: {', '.join(list(found)[:20])}",
            )
    names = {path: name for name, path in (named or {}).items()}
    return {names.get(path, path): module for path, module in found.items()}


def _walk_roots(pipeline: Any) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(pipeline, nn.Module):
        yield from ((path, m) for path, m in pipeline.named_modules() if path)
        return
    for name, value in _attributes(pipeline):
        if isinstance(value, nn.Module):
            yield name, value
            yield from ((f"{name}.{path}", m) for path, m in value.named_modules() if path)


def _attributes(pipeline: Any) -> Iterator[tuple[str, Any]]:
    components = getattr(pipeline, "components", None)
    if isinstance(components, dict):
        yield from cast("dict[str, Any]", components).items()
    if isinstance(pipeline, functools.partial):
        yield from pipeline.keywords.items()
        yield from _attributes(pipeline.func)
        return
    owner = getattr(pipeline, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        yield from _walk_object(owner)
    function = inspect.unwrap(pipeline) if callable(pipeline) else None
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        yield from variables.nonlocals.items()
        yield from variables.globals.items()
        yield from (function.__kwdefaults__ or {}).items()
    elif owner is None:
        yield from _walk_object(pipeline)


def _walk_object(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, nn.Module):
        yield from owner.named_children()
    else:
        yield from getattr(owner, "__dict__", {}).items()
