"""Where a bundle that is no directory comes from: a store, or a document of addresses."""

from __future__ import annotations

import os
from pathlib import Path

from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.locations import (
    Reference,
    is_remote,
    open_store,
    parse_reference,
)
from partitioner.artifacts.store.options import StoreOptions

__all__ = ["PRESIGNED", "find_source", "is_source"]

#: How the name of a document of addresses ends.
PRESIGNED = ".urls.json"


def is_source(text: str | os.PathLike[str]) -> bool:
    """Whether it is the address of a bundle in a store, or a document of addresses."""
    return is_remote(text) or os.fspath(text).endswith(PRESIGNED)


def find_source(text: str | os.PathLike[str], options: StoreOptions) -> tuple[Store, Reference]:
    """The store and the reference in it.

    Raises:
        UsageError: no address of a bundle.
        BundleError: a malformed document.
        MissingDependencyError: the store's client is not installed.
    """
    if not is_remote(text) and os.fspath(text).endswith(PRESIGNED):
        from partitioner.artifacts.store.presigned import open_presigned

        return open_presigned(Path(text), options)
    reference = parse_reference(os.fspath(text))
    return open_store(reference.store, options), reference
