"""``partition cache``: what a host keeps: blobs from stores, and what builds have compiled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.amounts import Amount
from partitioner.cli.failing import Failing
from partitioner.cli.printing import emit, json_option
from partitioner.cli.tables import size_text

if TYPE_CHECKING:
    from partitioner.caching.history import BuildRecord
    from partitioner.caching.pruning import Listed
    from partitioner.caching.storage import Entries

__all__ = ["command"]

_DAY = 86400.0


class _Verbs(Failing, click.Group):
    """Verbs of the cache."""


@click.group("cache", cls=_Verbs)
def command() -> None:
    """What this host keeps: blobs that were fetched from stores, and what builds have compiled.

    It is the directory PARTITIONER_CACHE, else partitioner in XDG_CACHE_HOME or ~/.cache. Blobs
    are kept below PARTITIONER_CACHE_LIMIT bytes if that is set, compiled segments below
    PARTITIONER_COMPILE_CACHE_LIMIT, 8 GiB by default.
    """


def _compile_option(function: Any) -> Any:
    remote = click.option(
        "--compile-cache", "remote", metavar="STORE", help="The compile cache in a store."
    )
    own = click.option("--compile", "compiled", is_flag=True, help="The compile cache on disk.")
    return own(remote(function))


@command.command("dir")
@json_option
def show_directory(as_json: bool) -> None:
    """Print where it is."""
    from partitioner.artifacts.store.cache import default_cache_dir

    path = default_cache_dir().absolute()
    emit(as_json, {"path": str(path)}, lambda: str(path))


@command.command("size")
@json_option
def show_size(as_json: bool) -> None:
    """Print what each part of it takes."""
    from partitioner.artifacts.store.cache import default_cache_dir

    root = default_cache_dir().absolute()
    parts = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    sizes = {path.name: _bytes_below(path) for path in parts}
    document = {"path": str(root), "size": sum(sizes.values()), "parts": sizes}
    lines = [f"{size_text(size):>12}  {name}" for name, size in sizes.items() if size]
    total = f"{size_text(sum(sizes.values())):>12}  {root}"
    emit(as_json, document, lambda: "\n".join([*lines, total]))


@command.command("ls")
@_compile_option
@json_option
def show_contents(compiled: bool, remote: str | None, as_json: bool) -> None:
    """List its blobs, or the entries of the compile cache, the least recently used first."""
    if compiled or remote:
        return _list_entries(_entries(remote), as_json)
    from partitioner.artifacts.store.cache import Cache

    cache = Cache()
    rows = [{"digest": r.digest, "size": r.size, "used": r.used} for r in cache.list()]
    total = sum(row.size for row in cache.list())
    lines = [f"{row['digest']}  {size_text(int(row['size']))}" for row in rows]
    document = {"path": str(cache.root), "size": total, "blobs": rows}
    emit(as_json, document, lambda: "\n".join([*lines, f"{len(rows)} blobs, {size_text(total)}"]))
    return None


@command.command("prune")
@click.option(
    "--max-size",
    "limit",
    type=Amount(min=0),
    help="GiB to keep, the most recently used.  [default: 0, or with --max-age no limit]",
)
@click.option(
    "--max-age",
    "days",
    type=Amount(min=0),
    help="Remove what was not used for so many days. For the compile cache.",
)
@_compile_option
@json_option
def prune(
    limit: float | None, days: float | None, compiled: bool, remote: str | None, as_json: bool
) -> None:
    """Remove the least recently used blobs, or entries of the compile cache.

    Bundles that are loaded go on running, and builds go on building.
    """
    most = None if limit is None else int(limit * 2**30)
    if compiled or remote:
        age = None if days is None else days * _DAY
        return _prune_entries(
            _entries(remote), 0 if most is None and age is None else most, age, as_json
        )
    if days is not None:
        raise click.UsageError("--max-age goes with --compile or --compile-cache")
    from partitioner.artifacts.store.cache import Cache

    cache = Cache()
    removed = cache.prune(most or 0)
    size = sum(row.size for row in removed)
    document = {"removed": [row.digest for row in removed], "size": size, "path": str(cache.root)}
    emit(as_json, document, lambda: f"removed {len(removed)} blobs, {size_text(size)}")
    return None


@command.command("explain")
@click.argument("pipeline", required=False)
@json_option
def explain(pipeline: str | None, as_json: bool) -> None:
    """Say what the last build found in the compile cache, and why not the rest.

    PIPELINE is the label of a bundle; without it, it is the build that ended last. For each segment
    that was compiled the nearest entry is named, and what is different: the part of the key, and
    its old and new value.
    """
    from partitioner.caching.cache import open_disk
    from partitioner.caching.history import read_records
    from partitioner.errors import UsageError

    records = read_records(open_disk().store)
    named = [r for r in records if pipeline in (None, r.pipeline)]
    if not named:
        known = ", ".join(sorted(r.pipeline for r in records)) or "none"
        raise UsageError(
            f"no build of {pipeline!r} is known" if pipeline else "no build is known",
            advice=f"build with the compile cache first; known builds: {known}",
        )
    emit(as_json, named[0].to_json(), lambda: _explained(named[0]))


# --- the compile cache ---------------------------------------------------------------------------


def _entries(remote: str | None) -> Entries:
    from partitioner.caching.cache import open_disk, open_remote
    from partitioner.caching.options import CacheOptions

    return open_remote(CacheOptions(remote=remote)) or open_disk()


def _list_entries(entries: Entries, as_json: bool) -> None:
    from partitioner.caching.pruning import list_entries

    rows = list_entries(entries)
    total = sum(_size(row) for row in rows)
    document = {
        "path": entries.store.uri,
        "size": total,
        "entries": [
            {
                "key": row.key,
                "kind": row.entry.kind if row.entry else "damaged",
                "pipeline": row.entry.pipeline if row.entry else None,
                "name": row.entry.name if row.entry else None,
                "size": _size(row),
                "used": row.used,
            }
            for row in rows
        ],
    }
    lines = [_entry_line(row) for row in rows]
    emit(as_json, document, lambda: "\n".join([*lines, f"{len(rows)} entries, {size_text(total)}"]))


def _prune_entries(entries: Entries, limit: int | None, age: float | None, as_json: bool) -> None:
    from partitioner.caching.pruning import prune as remove

    done = remove(entries, limit, age)
    document = {"removed": list(done.keys), "size": done.size, "path": entries.store.uri}
    emit(as_json, document, lambda: f"removed {len(done.keys)} entries, {size_text(done.size)}")


def _entry_line(row: Listed) -> str:
    what = f"{row.entry.kind:8}{row.entry.pipeline}/{row.entry.name}" if row.entry else "damaged"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.used))
    return f"{row.key[:19]}  {day}  {size_text(_size(row)):>10}  {what}"


def _size(row: Listed) -> int:
    """Of an entry and its files; a file of several entries counts in each."""
    return row.size + (row.entry.size if row.entry else 0)


def _explained(record: BuildRecord) -> str:
    found = sum(bool(lookup.where) for lookup in record.lookups)
    head = f"{record.pipeline}: {found} of {len(record.lookups)} found (--cache {record.mode})"
    return "\n".join([head, *(f"  {lookup.text()}" for lookup in record.lookups)])


def _bytes_below(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
