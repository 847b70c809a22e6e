"""``partition verify-signature``: whether a bundle is signed by a key."""

from __future__ import annotations

from pathlib import Path

import click

from partitioner.cli.printing import emit, json_option

__all__ = ["command"]


@click.command("verify-signature")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key's file, PEM; one of those given must have signed.",
)
@json_option
def command(bundle: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Tell whether BUNDLE is signed by a key, and its blobs are those that were signed.

    Exit code 23 if there is no such signature, 9 if a blob was changed.
    """
    from partitioner.artifacts.index import BundleIndex
    from partitioner.artifacts.signatures import read_signatures, verify_manifest

    found: list[Path] = []
    signatures = read_signatures(bundle)

    def trust(digest: str, content: bytes) -> None:
        found.append(verify_manifest(digest, content, signatures, keys))

    opened = BundleIndex.open(bundle, "always", trust=trust)
    opened.check()
    document = {"digest": opened.digest, "key": str(found[0])}
    emit(as_json, document, lambda: f"{opened.digest} is signed by {found[0]}")
