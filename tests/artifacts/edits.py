"""Changing one place of a manifest's JSON, by path."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.artifacts.samples import manifest

__all__ = ["DELETE", "edited", "places"]

#: In place of a value: remove the key or item.
DELETE = object()

Path = tuple[str | int, ...]


def edited(*edits: tuple[str, Any]) -> bytes:
    """The sample with values replaced; a path is ``plan.steps.1.trips``, a value may be a function
    of the old one."""
    document = json.loads(manifest().to_json())
    for path, value in edits:
        _put(document, [int(p) if p.isdigit() else p for p in path.split("/")], value)
    return json.dumps(document).encode()


def _put(document: Any, path: list[str | int], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    if value is DELETE:
        del document[path[-1]]
    elif isinstance(value, Callable):
        document[path[-1]] = value(document[path[-1]])
    else:
        document[path[-1]] = value


def places(document: Any, path: Path = ()) -> list[Path]:
    """Every place of a JSON document."""
    found = [path] if path else []
    if isinstance(document, dict):
        for key, value in document.items():
            found += places(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found += places(value, (*path, index))
    return found
