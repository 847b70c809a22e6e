"""``partition gc``: what no version or tag needs, out of a store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from partitioner.cli.amounts import Amount
from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import store_options, taken_options
from partitioner.cli.tables import size_text

__all__ = ["command"]


@click.command("gc")
@click.argument("store")
@click.option(
    "--grace",
    type=Amount(min=0),
    default=24.0,
    show_default=True,
    help="Hours for which nothing is removed. Longer than any pull takes.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@store_options
@json_option
def command(store: str, grace: float, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Remove blobs of STORE that no version, tag or running push needs."""
    from partitioner.artifacts.store.gc import collect
    from partitioner.artifacts.store.locations import open_store

    opened = open_store(store, taken_options(options))
    done = collect(opened, grace=grace * 3600, dry_run=dry_run)
    emit(as_json, {**asdict(done), "dry_run": dry_run}, lambda: _text(done, dry_run))


def _text(done: Any, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {len(done.removed)} blobs, {size_text(done.removed_bytes)}"]
    lines.append(f"kept {done.kept} that are needed, {done.young} that are too young")
    if done.uploads:
        lines.append(f"dropped {done.uploads} interrupted uploads")
    return "\n".join(lines)
