"""Removing what nothing points to any more.

1. A mark says that a collection runs (``lease.py``): pushes that begin from here on wait for its
   end before they commit, so none relies on a blob unseen.
2. Pushes that had begun before are read, and all versions, tags, and versions removed within the
   grace period; from these the manifests, from these the blobs. If a manifest is missing or
   damaged, or the store's lists are stale, nothing is removed at all.
3. Blobs that are not among these are removed, if they are older than the grace period; and
   likewise signatures of bundles that are gone, and what interrupted uploads have left.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from partitioner.artifacts.store.base import Entry, Store
from partitioner.artifacts.store.closure import stored_closure
from partitioner.artifacts.store.layout import (
    BLOB_PREFIX,
    MAX_DOCUMENT,
    REFS_PREFIX,
    SIGNATURES_PREFIX,
    WRITERS_PREFIX,
    Pointer,
    blob_key,
    read_digests,
    signatures_key,
    split_ref_key,
    write_digests,
    writer_key,
)
from partitioner.artifacts.store.lease import Lease
from partitioner.errors import BundleError, NotInStoreError, StoreError, UsageError

__all__ = ["DEFAULT_GRACE", "Collected", "collect"]

#: A day: longer than any push or pull takes.
DEFAULT_GRACE = 86_400.0

#: Seconds after which an announced push is taken for killed.
_WRITER_LIFE = 7 * 86_400.0

_TRIES = 5


@dataclass(frozen=True)
class Collected:
    """What a collection has removed, or would remove.

    Args:
        kept: blobs that something points to.
        young: blobs that nothing points to, within the grace period.
        removed, removed_bytes: blobs.
        uploads: interrupted uploads that were dropped.
    """

    kept: int
    young: int
    removed: list[str]
    removed_bytes: int
    uploads: int


def collect(store: Store, *, grace: float = DEFAULT_GRACE, dry_run: bool = False) -> Collected:
    """Remove blobs that no version, tag or running push needs.

    Args:
        grace: seconds for which anything is kept whatever points to it; less than 0 for none, also
            where the store's clock is ahead.
        dry_run: only tell.

    Raises:
        UsageError: the grace is no number of seconds.
        ConflictError: another collection is running.
        StoreError: something points to a manifest that is missing or damaged; the store's lists lag
            behind its content; as the store's methods. Nothing that is needed is removed in any
            case.
    """
    # Nothing is younger than a limit that compares with nothing: all would be old.
    if math.isnan(grace):
        raise UsageError(f"the grace is a number of seconds, not {grace}")
    lease = Lease(store)
    try:
        _check_lists(store)
        needed = _needed(store, lease, grace)
        old, young, kept = _split(store, lease, needed, grace)
        for entry in old if not dry_run else []:
            lease.hold()
            store.delete(entry.key)
        uploads = 0 if dry_run else _tidy(store, lease, needed, grace)
    finally:
        lease.release()
    size = sum(entry.size for entry in old)
    return Collected(kept, young, [entry.key for entry in old], size, uploads)


def _check_lists(store: Store) -> None:
    """Refuse a store that does not list what was just written: it may hide a version, too."""
    key = writer_key(f"probe-{uuid.uuid4().hex}")
    store.put_if_absent(key, write_digests([]))
    try:
        listed = key in {entry.key for entry in store.list(WRITERS_PREFIX)}
    finally:
        store.delete(key)
    if not listed:
        raise StoreError(
            "the store does not list what was just written to it",
            where=store.uri,
            advice="collect when its lists are up to date, or use a store that is consistent after "
            "each write; nothing was removed",
        )


def _split(
    store: Store, lease: Lease, needed: set[str], grace: float
) -> tuple[list[Entry], int, int]:
    old: list[Entry] = []
    young = kept = 0
    for entry in store.list(BLOB_PREFIX):
        lease.hold()
        if entry.key in needed:
            kept += 1
        elif lease.now() - entry.modified <= grace:
            young += 1
        else:
            old.append(entry)
    return old, young, kept


def _needed(store: Store, lease: Lease, grace: float) -> set[str]:
    """Keys of blobs and signatures that something needs."""
    # In this order: a push that ends in between has created its version before it left.
    needed = {blob_key(digest) for digest in _announced(store, lease)}
    pointers = _pointers(store, lease, grace)
    for digest, where in pointers.items():
        lease.hold()
        needed |= {signatures_key(digest), *_closure(store, digest, where)}
    return needed


def _announced(store: Store, lease: Lease) -> Iterator[str]:
    for entry in list(store.list(WRITERS_PREFIX)):
        if lease.started - entry.modified > _WRITER_LIFE:
            continue
        found = store.get(entry.key, MAX_DOCUMENT)
        if found is not None:
            yield from read_digests(found.data, f"{store.uri}/{entry.key}")


def _pointers(store: Store, lease: Lease, grace: float) -> dict[str, str]:
    """Digest of each manifest that is pointed to -> by whom."""
    for _ in range(_TRIES):
        pointers: dict[str, str] = {}
        vanished = False
        for entry in list(store.list(REFS_PREFIX)):
            lease.hold()
            parts = split_ref_key(entry.key)
            where = f"{store.uri}/{entry.key}"
            if parts is None:
                raise StoreError("an object of the store has a foreign name", where=where)
            if parts[1] == "removed" and lease.now() - entry.modified > grace:
                continue
            found = store.get(entry.key, MAX_DOCUMENT)
            # What is removed in this moment is remembered under a key that this list may lack.
            vanished |= found is None
            if found is not None:
                pointers[Pointer.from_json(found.data, where).digest] = where
        if not vanished:
            return pointers
    raise StoreError("versions are removed faster than they can be listed", where=store.uri)


def _closure(store: Store, digest: str, where: str) -> set[str]:
    try:
        return {blob_key(blob) for blob in stored_closure(store, digest)}
    except (BundleError, NotInStoreError) as error:
        raise StoreError(
            f"it points to something else than a whole bundle: {error.what}",
            where=where,
            advice="push the bundle again, or remove what points to it; nothing was removed",
        ) from error


def _tidy(store: Store, lease: Lease, needed: set[str], grace: float) -> int:
    """Remove old documents that nothing needs. Returns how many uploads were dropped."""
    for entry in list(store.list(SIGNATURES_PREFIX)):
        if entry.key not in needed and lease.now() - entry.modified > grace:
            lease.hold()
            store.delete(entry.key)
    for entry in list(store.list(WRITERS_PREFIX)):
        if lease.now() - entry.modified > _WRITER_LIFE:
            store.delete(entry.key)
    for entry in list(store.list(REFS_PREFIX)):
        parts = split_ref_key(entry.key)
        if parts is not None and parts[1] == "removed" and lease.now() - entry.modified > grace:
            store.delete(entry.key)
    return store.abandon(grace)
