"""``partition presign``: a bundle for those without credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.amounts import Amount
from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import store_options, taken_options

__all__ = ["command"]


@click.command("presign")
@click.argument("reference")
@click.option(
    "--hours",
    type=Amount(min=0.01, max=168),
    default=1.0,
    show_default=True,
    help="For which the addresses are valid.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="NAME.urls.json by default.")
@store_options
@json_option
def command(
    reference: str, hours: float, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Write a document with which anybody can read one bundle of an S3 store for a while.

    \b
      partition presign s3://models/prod/my@v3 --hours 2 -o my.urls.json
      partition pull my.urls.json -o my.bundle
    """
    from partitioner.artifacts.store.locations import open_store, parse_reference
    from partitioner.artifacts.store.presigned import presign
    from partitioner.artifacts.store.sources import PRESIGNED
    from partitioner.errors import UsageError
    from partitioner.wholefiles import check_target, write_whole

    parsed = parse_reference(reference)
    path = output or Path(f"{parsed.name}{PRESIGNED}")
    if not path.name.endswith(PRESIGNED):
        raise UsageError(
            f"{path} does not end in {PRESIGNED}", advice="load and pull tell it by that"
        )
    check_target(path)
    data = presign(open_store(parsed.store, taken_options(options)), parsed, int(hours * 3600))
    # Whoever can read it can read the bundle.
    write_whole(path, lambda file: file.write(data), mode=0o600)
    emit(as_json, {"path": str(path), "hours": hours}, lambda: f"{path}  valid for {hours:g} h")
