"""Opening a bundle wherever it is, a directory or a store, and the member that this host runs."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from partitioner.artifacts.bundle import Verify
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.policy import requirements_for
from partitioner.artifacts.signatures import read_signatures, required
from partitioner.artifacts.store.locations import local_path
from partitioner.artifacts.store.options import DEFAULT_OPTIONS, StoreOptions
from partitioner.artifacts.store.sources import find_source, is_source
from partitioner.runtime.choosing import Choice, choose

__all__ = ["Keys", "open_directory", "opened"]

#: A public key's file, or several of which one will do; None if no signature is required.
Keys = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


@contextmanager
def opened(
    path: str | os.PathLike[str],
    verify: Verify = "once",
    *,
    keys: Keys = None,
    options: StoreOptions = DEFAULT_OPTIONS,
    wanted: Mapping[str, str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Generator[Choice]:
    """Open a bundle, and choose a member; in the context its blobs stay where they are.

    Args:
        path: a directory, ``file://`` and a directory, the address of a bundle in a store, or a
            document of presigned addresses.
        verify: as of ``Bundle.open``.
        keys: one of which must have signed, beside what the policy requires.
        wanted: labels that the member must have.
        cache: directory of what is fetched from a store; None for the usual one.

    Raises:
        as ``BundleIndex.open`` and ``choose``; for stores as ``opened_remote``; and
        UsageError: a malformed address or policy.
    """
    if is_source(path):
        from partitioner.artifacts.store.cache import Cache
        from partitioner.artifacts.store.remote import needed_to_run, opened_remote

        store, reference = find_source(path, options)
        with opened_remote(
            store,
            reference,
            cache=Cache(None if cache is None else Path(cache)),
            verify=verify,
            requirements=requirements_for(str(reference), _paths(keys)),
            threads=options.threads,
        ) as (index, fetcher):
            choice = choose(index, wanted)
            for bundle in choice.buckets or (choice.bundle,):
                fetcher.start(needed_to_run(bundle.manifest))
            yield choice
        return
    yield choose(open_directory(path, verify, keys=keys), wanted)


def open_directory(
    path: str | os.PathLike[str], verify: Verify = "once", *, keys: Keys = None
) -> BundleIndex:
    """Open a bundle that is here, with all its members.

    Args:
        path: a directory, or ``file://`` and a directory.
        verify, keys: as of :func:`opened`.

    Raises:
        as ``BundleIndex.open``; and UsageError: a malformed address or policy.
    """
    root = local_path(path)
    requirements = requirements_for(str(root.absolute()), _paths(keys))
    signatures = read_signatures(root) if requirements else []
    return BundleIndex.open(root, verify, trust=required(requirements, signatures))


def _paths(keys: Keys) -> tuple[Path, ...]:
    if keys is None:
        return ()
    if isinstance(keys, str | os.PathLike):
        return (Path(keys),)
    return tuple(Path(key) for key in keys)
