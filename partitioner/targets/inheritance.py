"""``base``: a table has the values of another where it says nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast

from partitioner.errors import UsageError
from partitioner.targets.reading import Table

__all__ = ["inherit"]

#: What belongs to a table and not to those that stand on it.
_OWN = ("base", "aliases")

#: Are replaced as a whole: figures of two sources side by side say nothing.
_WHOLE = ("price", "flops_per_core")

#: Belong together: a table that names one stands for another instance than its base.
_INSTANCE = ("instance", "price")


def inherit(name: str, tables: Mapping[str, Table]) -> dict[str, Any]:
    """All values of a table, those of its bases included.

    Tables within it are merged by key, but for ``price`` and ``flops_per_core``; the rest is
    replaced. A table that states a price or an instance has neither of its base; one that states a
    price alone is the instance of its name.

    Raises:
        UsageError: a base that does not exist, or bases in a circle.
    """
    chain = _chain(name, tables)
    values: dict[str, Any] = {"family": chain[-1].name}
    for table in reversed(chain):
        own = {k: v for k, v in table.values.items() if k not in _OWN}
        if any(key in own for key in _INSTANCE):
            values = {k: v for k, v in values.items() if k not in _INSTANCE}
            own.setdefault("instance", table.name)
        values = _merge(values, own)
    aliases = tables[name].values.get("aliases", ())
    return {**values, "aliases": aliases}


def _chain(name: str, tables: Mapping[str, Table]) -> list[Table]:
    """The table, its base, the base of that, and so on."""
    chain = [tables[name]]
    while (base := chain[-1].values.get("base")) is not None:
        where = str(chain[-1].place / "base")
        if base not in tables:
            near = difflib.get_close_matches(base, tables, 1)
            raise UsageError(
                f"the base {base!r} of target {chain[-1].name!r} does not exist",
                where=where,
                advice=f"did you mean {near[0]!r}?" if near else "see `partition targets`",
            )
        names = [table.name for table in chain]
        if base in names:
            circle = " -> ".join([*names[names.index(base) :], base])
            raise UsageError(
                f"the bases of targets go in a circle: {circle}",
                where=where,
                advice="take 'base' out of one of them",
            )
        chain.append(tables[base])
    return chain


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and key not in _WHOLE:
            merged[key] = _merge(cast("dict[str, Any]", old), cast("dict[str, Any]", value))
        else:
            merged[key] = value
    return merged
