"""``partition sign``: a signature beside a bundle."""

from __future__ import annotations

import os
from pathlib import Path

import click

from partitioner.cli.printing import emit, json_option

__all__ = ["command"]


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="A private key's file, PEM."
)
@click.option(
    "--password-env",
    metavar="NAME",
    help="The environment variable that has the key's password.",
)
@json_option
def command(bundle: Path, key: Path, password_env: str | None, as_json: bool) -> None:
    """Sign BUNDLE with an elliptic-curve key, offline, in the OpenSSF model-signing format.

    Every blob is hashed first. The signature lies in BUNDLE/signatures.json and goes with the
    bundle where it is pushed; push again after signing.

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out release.key
      openssl ec -in release.key -pubout -out release.pub
      partition sign my.bundle --key release.key
    """
    from partitioner.artifacts.index import BundleIndex
    from partitioner.artifacts.signatures import (
        merge_signatures,
        read_signatures,
        sign_manifest,
        write_signatures,
    )
    from partitioner.errors import UsageError

    if password_env is not None and password_env not in os.environ:
        raise UsageError(f"there is no environment variable {password_env}")
    password = os.environ[password_env] if password_env else None
    opened = BundleIndex.open(bundle, "always")
    opened.check()
    signature = sign_manifest(opened.digest, opened.read_root(), key, password)
    write_signatures(bundle, merge_signatures([*read_signatures(bundle), signature], None))
    document = {"digest": opened.digest, "signatures": len(read_signatures(bundle))}
    emit(as_json, document, lambda: f"signed {opened.digest}")
