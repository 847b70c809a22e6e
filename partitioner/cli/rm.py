"""``partition rm``: a version or tag out of a store."""

from __future__ import annotations

from typing import Any

import click

from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import store_options, taken_options

__all__ = ["command"]


@click.command("rm")
@click.argument("reference")
@store_options
@json_option
def command(reference: str, as_json: bool, **options: Any) -> None:
    """Remove a tag, or a version to which no tag points: STORE/NAME@TAG or @VERSION.

    Blobs stay until `partition gc`; who reads the version just now can end in peace.
    """
    from partitioner.artifacts.store.locations import open_store, parse_reference
    from partitioner.artifacts.store.refs import remove
    from partitioner.errors import UsageError

    parsed = parse_reference(reference)
    if "@" not in reference.rstrip("/").rpartition("/")[2]:
        raise UsageError("nothing is removed by default", advice="name the tag: NAME@latest")
    removed = remove(open_store(parsed.store, taken_options(options)), parsed)
    emit(as_json, {"removed": removed}, lambda: f"removed {', '.join(removed)}")
