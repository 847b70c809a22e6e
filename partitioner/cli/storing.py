"""What the verbs about stores share: options, progress, bytes for people."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import click

from partitioner.artifacts.store.options import StoreOptions
from partitioner.cli.progress import progress_bar

__all__ = ["allow_option", "bytes_progress", "require_option", "store_options", "taken_options"]


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--endpoint``, ``--region``, ``--profile``, ``--threads``, ``--ca-file``."""
    for decorate in (
        click.option("--endpoint", help="Of an S3-compatible service; else AWS_ENDPOINT_URL."),
        click.option("--region", help="Else what the AWS configuration says."),
        click.option("--profile", help="Of the AWS configuration."),
        click.option("--threads", type=int, default=4, show_default=True, help="Requests at once."),
        click.option("--ca-file", type=click.Path(path_type=Path), help="Certificates to trust."),
    ):
        function = decorate(function)
    return function


def taken_options(given: dict[str, Any]) -> StoreOptions:
    """The store's options, taken out of a verb's."""
    names = ("endpoint", "region", "profile", "threads", "ca_file", "encryption", "kms_key")
    return StoreOptions(**{name: given.pop(name) for name in names if name in given})


def require_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--require-signature KEY``, any number of times: one of the keys must have signed."""
    return click.option(
        "--require-signature",
        "keys",
        multiple=True,
        metavar="KEY",
        type=click.Path(path_type=Path),
        help="A public key's file; one of those given must have signed.",
    )(function)


def allow_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--allow-executable``: load code from a bundle of which no signature was verified."""
    return click.option(
        "--allow-executable",
        is_flag=True,
        help="Load executable code from an unsigned bundle, too. It can do whatever you can.",
    )(function)


@contextmanager
def bytes_progress(quiet: bool, label: str, total: int) -> Generator[Callable[[int], None]]:
    """A callback that counts bytes from any thread, and draws a bar on a terminal."""
    done = 0
    lock = Lock()
    with progress_bar(quiet) as show:

        def count(more: int) -> None:
            nonlocal done
            with lock:
                done += more
                show(label, min(done, total), total)

        yield count
