"""``partition cache``: the local cache of blobs from stores."""

from __future__ import annotations

import click

from partitioner.cli.common import Failing, emit, json_option
from partitioner.cli.tables import size_text

__all__ = ["command"]


class _Verbs(Failing, click.Group):
    """Verbs of the cache."""


@click.group("cache", cls=_Verbs)
def command() -> None:
    """The local cache of blobs that were fetched from stores.

    It is the directory PARTITIONER_CACHE, else partitioner in XDG_CACHE_HOME or ~/.cache, and
    kept below PARTITIONER_CACHE_LIMIT bytes if that is set.
    """


@command.command("dir")
@json_option
def show_directory(as_json: bool) -> None:
    """Print where it is."""
    from partitioner.artifacts.store.cache import default_cache_dir

    path = default_cache_dir().absolute()
    emit(as_json, {"path": str(path)}, lambda: str(path))


@command.command("ls")
@json_option
def show_blobs(as_json: bool) -> None:
    """List its blobs, the least recently used first."""
    from partitioner.artifacts.store.cache import Cache

    cache = Cache()
    rows = [{"digest": r.digest, "size": r.size, "used": r.used} for r in cache.list()]
    total = sum(row.size for row in cache.list())
    lines = [f"{row['digest']}  {size_text(int(row['size']))}" for row in rows]
    document = {"path": str(cache.root), "size": total, "blobs": rows}
    emit(as_json, document, lambda: "\n".join([*lines, f"{len(rows)} blobs, {size_text(total)}"]))


@command.command("prune")
@click.option(
    "--max-size",
    "limit",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="GiB to keep, the most recently used.",
)
@json_option
def prune(limit: float, as_json: bool) -> None:
    """Remove the least recently used blobs. Bundles that are loaded go on running."""
    from partitioner.artifacts.store.cache import Cache

    cache = Cache()
    removed = cache.prune(int(limit * 2**30))
    size = sum(row.size for row in removed)
    document = {"removed": [row.digest for row in removed], "size": size, "path": str(cache.root)}
    emit(as_json, document, lambda: f"removed {len(removed)} blobs, {size_text(size)}")
