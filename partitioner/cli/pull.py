"""``partition pull``: a bundle from a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.models import member_option
from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import bytes_progress, require_option, store_options, taken_options
from partitioner.cli.tables import size_text

__all__ = ["command"]


@click.command("pull")
@click.argument("reference")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="NAME.bundle by default.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@member_option
@require_option
@store_options
@json_option
def command(
    reference: str,
    output: Path | None,
    overwrite: bool,
    wanted: dict[str, str] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Copy a bundle from a store to a directory: STORE/NAME@TAG, @VERSION or @sha256:DIGEST, or a
    document that `partition presign` made.

    Every blob is hashed. With --variant only that member's are copied. Blobs come by way of the
    local cache (see `partition cache`).

    \b
      partition pull s3://models/prod/bernini@v3 -o bernini.bundle
      partition pull s3://models/prod/bernini@v3 --variant target=xeon
      partition pull https://models.example/prod/bernini --require-signature release.pub
    """
    from partitioner.artifacts.policy import requirements_for
    from partitioner.artifacts.store.cache import Cache
    from partitioner.artifacts.store.pull import pull
    from partitioner.artifacts.store.refs import resolve
    from partitioner.artifacts.store.sources import find_source

    settings = taken_options(options)
    store, parsed = find_source(reference, settings)
    total = resolve(store, parsed).total if wanted is None else 0
    with bytes_progress(as_json or not total, "pull", total) as progress:
        done = pull(
            store,
            parsed,
            output or Path(f"{parsed.name}.bundle"),
            cache=Cache(),
            overwrite=overwrite,
            requirements=requirements_for(str(parsed), options["keys"]),
            threads=settings.threads,
            progress=progress,
            wanted=wanted,
        )
    document = {"path": str(done.path), "digest": done.digest, "size": done.size}
    emit(as_json, document, lambda: f"{done.path}  {size_text(done.size)}\ndigest   {done.digest}")
