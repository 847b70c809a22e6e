"""``partition push``: a bundle to a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import bytes_progress, store_options, taken_options
from partitioner.cli.tables import size_text

__all__ = ["command"]


@click.command("push")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("store")
@click.option("--tag", help="A tag to move to it: v3, latest.")
@click.option("--name", help="In the store; the bundle's own by default.")
@click.option("--version", help="In the store; the bundle's label by default, else its digest.")
@click.option("--sse", "encryption", help="AES256, aws:kms or aws:kms:dsse; else the bucket's.")
@click.option("--kms-key", help="Id or ARN of the KMS key.")
@store_options
@json_option
def command(bundle: Path, store: str, as_json: bool, **options: Any) -> None:
    """Copy BUNDLE to STORE: s3://bucket/prefix or file:///directory.

    Only blobs that are missing travel; readers see all of it or nothing; a run that was killed is
    continued by the next.

    \b
      partition push my.bundle s3://models/prod --tag v3
      partition push my.bundle s3://models/prod --tag latest --sse aws:kms --kms-key KEY
    """
    from partitioner.artifacts.index import BundleIndex
    from partitioner.artifacts.store.locations import open_store
    from partitioner.artifacts.store.push import push

    settings = taken_options(options)
    opened = open_store(store, settings)
    total = sum(blob.size for blob in BundleIndex.open(bundle, "never").closure())
    with bytes_progress(as_json, "push", total) as progress:
        done = push(bundle, opened, threads=settings.threads, progress=progress, **options)
    address = f"{opened.uri}/{done.name}@{done.tag or done.version}"
    emit(as_json, {**asdict(done), "address": address}, lambda: _text(done, address))


def _text(done: Any, address: str) -> str:
    sent = f"sent {done.sent} blobs, {size_text(done.sent_bytes)}"
    kept = f"{done.skipped} were there, {size_text(done.skipped_bytes)}"
    return f"{address}\nversion  {done.version}\ndigest   {done.digest}\n{sent}; {kept}"
