"""Keeping a cache bounded: what was not used for longest goes first.

Entries go before the files that they alone name, so that what is interrupted leaves files that
nobody names, which the next run removes. Nothing is locked: who finds an entry whose file has just
gone compiles anew.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.store.base import Entry as Object
from partitioner.artifacts.store.layout import blob_key
from partitioner.caching.entries import Entry
from partitioner.caching.storage import ENTRIES, Entries
from partitioner.errors import BundleError

__all__ = ["Listed", "Pruned", "list_entries", "prune"]

#: Seconds for which a file may lie there before the entry that names it.
_GRACE = 3600.0

#: Seconds after which an upload to S3 in several parts is taken for dead.
_ABANDONED = 86400.0

_THREADS = 8


@dataclass(frozen=True)
class Listed:
    """An entry of a cache.

    Args:
        entry: None if it is damaged.
        size: bytes of the entry itself.
        used: seconds since 1970; to the day for a remote cache.
    """

    key: str
    entry: Entry | None
    size: int
    used: float


@dataclass(frozen=True)
class Pruned:
    """What was removed: keys of entries, and bytes, files that nobody named included."""

    keys: tuple[str, ...]
    size: int


def list_entries(entries: Entries) -> list[Listed]:
    """All entries, the least recently used first."""

    def read(row: tuple[str, Object]) -> Listed:
        key, found = row
        try:
            entry = entries.find(key)
        except BundleError:
            entry = None
        return Listed(key, entry, found.size, found.modified)

    with ThreadPoolExecutor(_THREADS, "entries") as pool:
        return list(pool.map(read, entries.objects()))


def prune(entries: Entries, limit: int | None, max_age: float | None = None) -> Pruned:
    """Remove entries until at most ``limit`` bytes are left, and those unused for ``max_age``.

    Args:
        limit: bytes; None for no limit.
        max_age: seconds; None for no limit.

    Raises:
        StoreError: the store cannot be reached, or refuses.
    """
    now = time.time()
    files = dict(entries.files())
    rows = list_entries(entries)
    users = Counter(digest for row in rows for digest in _files(row))
    total = sum(row.size for row in rows) + sum(files[d].size for d in users if d in files)
    removed: list[str] = []
    size = 0
    for row in rows:
        aged = max_age is not None and now - row.used > max_age
        if not (aged or row.entry is None or (limit is not None and total > limit)):
            continue
        entries.store.delete(f"{ENTRIES}{hex_of(row.key)}.json")
        users.subtract(_files(row))
        gone = [d for d in _files(row) if not users[d] and d in files]
        freed = row.size + sum(files[d].size for d in gone)
        for digest in gone:
            entries.store.delete(blob_key(digest))
            del files[digest]
        total, size = total - freed, size + freed
        removed.append(row.key)
    for digest, found in files.items():
        if not users[digest] and now - found.modified > _GRACE:
            entries.store.delete(blob_key(digest))
            size += found.size
    entries.store.abandon(_ABANDONED)
    return Pruned(tuple(removed), size)


def _files(row: Listed) -> set[str]:
    return set() if row.entry is None else {blob.digest for blob in row.entry.files.values()}
