"""``partition ls``: what is in a store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import store_options, taken_options
from partitioner.cli.tables import size_text

__all__ = ["command"]


@click.command("ls")
@click.argument("store")
@click.option("--name", help="Of this bundle only.")
@store_options
@json_option
def command(store: str, name: str | None, as_json: bool, **options: Any) -> None:
    """List versions and tags in STORE: s3://bucket/prefix or file:///directory."""
    from partitioner.artifacts.store.layout import check_name
    from partitioner.artifacts.store.locations import open_store
    from partitioner.artifacts.store.refs import list_refs

    if name is not None:
        check_name(name, "the name of a bundle")
    opened = open_store(store, taken_options(options))
    rows = [
        {
            "name": row.pointer.name,
            "kind": row.kind,
            "ref": row.ref,
            "version": row.pointer.version,
            "digest": row.pointer.digest,
            "size": row.pointer.total,
            "modified": datetime.fromtimestamp(row.modified, UTC).isoformat(timespec="seconds"),
        }
        for row in list_refs(opened, name)
    ]
    emit(as_json, {"store": opened.uri, "refs": rows}, lambda: _text(rows))


def _text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing"
    cells = [
        (
            f"{row['name']}@{row['ref']}",
            "version" if row["kind"] == "version" else f"-> {row['version']}",
            size_text(row["size"]),
            row["digest"][:19],
            row["modified"],
        )
        for row in rows
    ]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip()
        for cell in cells
    )
