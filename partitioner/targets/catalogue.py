"""All targets by name: ours, those of the environment and those of files that the user names."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from partitioner.errors import UsageError
from partitioner.targets.facts import Target
from partitioner.targets.inheritance import inherit
from partitioner.targets.making import make_target
from partitioner.targets.reading import Table, read_file, read_tables

__all__ = ["ENVIRONMENT", "all_targets", "find_target"]

#: Names files of targets, as PATH names folders.
ENVIRONMENT = "PARTITIONER_TARGETS"


def find_target(name: str, files: Sequence[str | os.PathLike[str]] = ()) -> Target:
    """The target of this name or alias, in whatever case.

    Args:
        files: the user's files of targets; those of the environment variable
            ``PARTITIONER_TARGETS`` are read, too. The form is in ``docs/targets.md``.

    Raises:
        UsageError: there is none, or a file is wrong.
    """
    tables = _tables(files)
    names = _names(tables)
    wanted = name.lower()
    if wanted in names:
        return _made(tables, names[wanted])
    near = difflib.get_close_matches(wanted, names, 1)
    families = [own for own in sorted(tables) if "." not in own]
    raise UsageError(
        f"there is no target {name!r}",
        advice=f"did you mean {near[0]!r}?" if near else f"targets: {', '.join(families)}",
    )


def all_targets(files: Sequence[str | os.PathLike[str]] = ()) -> tuple[Target, ...]:
    """Every target, families before their instances, by price; see :func:`find_target`."""
    tables = _tables(files)
    targets = [_made(tables, name) for name in tables]
    return tuple(sorted(targets, key=_order))


def _order(target: Target) -> tuple[str, bool, str, float]:
    """Families first, then instances by kind and price."""
    kind, _, size = target.name.partition(".")
    price = target.price.per_hour if size and target.price else 0.0
    return (target.family, bool(size), kind, price)


def _made(tables: Mapping[str, Table], name: str) -> Target:
    return make_target(tables[name], inherit(name, tables))


def _tables(files: Sequence[str | os.PathLike[str]]) -> dict[str, Table]:
    """Every table by name; no name is there twice."""
    tables = dict(_built_in())
    listed = [Path(text) for text in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if text]
    # The same file named in both ways is one file.
    paths = {path.resolve(): path for path in [*listed, *map(Path, files)]}
    for path in paths.values():
        _add(tables, read_file(path))
    return tables


@functools.cache
def _built_in() -> Mapping[str, Table]:
    tables: dict[str, Table] = {}
    folder = resources.files("partitioner.targets") / "tables"
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".toml"):
            _add(tables, read_tables(file.read_text(encoding="utf-8"), file.name))
    return tables


def _add(tables: dict[str, Table], more: Mapping[str, Table]) -> None:
    for table in more.values():
        taken = _names(tables)
        for name in (table.name, *table.values.get("aliases", ())):
            if name.lower() in taken:
                owner = tables[taken[name.lower()]]
                raise UsageError(
                    f"there is a target {name!r} already, in {owner.place.file}",
                    where=str(table.place),
                    advice=f"give yours another name, with base = {owner.name!r}",
                )
        tables[table.name] = table


def _names(tables: Mapping[str, Table]) -> dict[str, str]:
    """Names and aliases in small letters -> the table's name."""
    return {
        name.lower(): table.name
        for table in tables.values()
        for name in (table.name, *table.values.get("aliases", ()))
    }
