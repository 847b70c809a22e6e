"""How a bundle's placement was decided, as its manifest keeps it: read it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from partitioner.errors import BundleError
from partitioner.planning.overrides import Overrides
from partitioner.tuning import Tuned

__all__ = ["Recipe", "read_recipe"]


@dataclass(frozen=True)
class Recipe:
    """What placement was made from besides program and target.

    Attributes:
        backends: in order of preference; None for the target's own.
        measured: what was measured on the machine that built; empty without tuning.
    """

    backends: list[str] | None
    overrides: Overrides
    measured: tuple[Tuned, ...]


def read_recipe(document: Any) -> Recipe:
    """The option ``placement`` of a manifest; of one that has none, nothing.

    Raises:
        BundleError: it is not of the form that a build writes.
    """
    try:
        return Recipe(
            _texts(document["backends"]) if "backends" in document else None,
            Overrides(_table(document.get("stages", {})), _table(document.get("ops", {}))),
            tuple(Tuned.read(one) for one in document.get("measured", ())),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"the bundle's option 'placement' is malformed ({error})", advice="build it again"
        ) from error


def _texts(values: Iterable[Any]) -> list[str]:
    found = list(values)
    if isinstance(values, str) or not all(isinstance(v, str) for v in found):
        raise TypeError("not a list of texts")
    return found


def _table(values: Mapping[Any, Any]) -> dict[str, str]:
    return dict(zip(_texts(values.keys()), _texts(values.values()), strict=True))
