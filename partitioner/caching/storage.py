"""Entries in a store: on this disk or on S3, by the same few calls.

    entries/<hex>.json      an entry, under the digest of its key; create-only
    blobs/sha256/<hex>      its files; create-only

Files are written first, so whoever sees an entry finds them. An entry whose files are missing or
damaged (somebody pruned in between, a disk failed) counts as damaged: it is dropped, and made anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from partitioner.artifacts.digest import check_digest, digest_file, hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import Entry as Object
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.fetch import fetch
from partitioner.artifacts.store.layout import BLOB_PREFIX, blob_key
from partitioner.caching.entries import MAX_ENTRY, Entry
from partitioner.errors import BundleError

__all__ = ["ENTRIES", "Entries", "file_blob"]

ENTRIES = "entries/"

_FILE_TYPE = "application/vnd.partitioner.cached.v1"
_THREADS = 4


class Entries:
    """The entries of one store.

    Args:
        touch_after: seconds after which a use of an entry is noted, by writing it again; so that
            reading from S3 does not write to it each time.
    """

    def __init__(self, store: Store, touch_after: float) -> None:
        self.store = store
        self.touch_after = touch_after

    def find(self, key: str) -> Entry | None:
        """The entry of a key.

        Raises:
            BundleError: it is damaged.
            StoreError: the store cannot be reached.
        """
        path = _path(key)
        found = self.store.get(path, MAX_ENTRY)
        return None if found is None else Entry.from_json(found.data, key, self._at(path))

    def fetch(self, entry: Entry, folder: Path) -> dict[str, Path]:
        """The entry's files, by role, in a folder of the caller's; hashed on the way.

        Raises:
            BundleError: one is missing or damaged.
            StoreError: the store cannot be reached.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths: dict[str, Path] = {}
        for role, blob in entry.files.items():
            paths[role] = folder / role
            there = self.store.head(blob_key(blob.digest))
            if there is None or there.size != blob.size:
                what = "is missing" if there is None else f"has {there.size} bytes"
                raise damaged(f"a file of an entry {what}: {blob.digest}", self.store.uri)
            fetch(self.store, blob, paths[role], _THREADS, lambda count: None)
        return paths

    def keep(self, entry: Entry, files: Mapping[str, Path]) -> bool:
        """Keep an entry; its files first. False if there is one under its key, which stays.

        Raises:
            StoreError: the store cannot be reached, or refuses.
        """
        for role, blob in entry.files.items():
            self.store.upload_if_absent(
                files[role], blob, blob_key(blob.digest), lambda count: None
            )
        return self.store.put_if_absent(_path(entry.key.digest), entry.to_json())

    def drop(self, key: str, entry: Entry | None) -> None:
        """Forget an entry that was found damaged, and its files, of which one may be at fault."""
        self.store.delete(_path(key))
        for blob in {} if entry is None else entry.files.values():
            self.store.delete(blob_key(blob.digest))

    def touch(self, entry: Entry) -> None:
        """Note that an entry was used, if that was not noted lately."""
        path = _path(entry.key.digest)
        there = self.store.head(path)
        if there is None or time.time() - there.modified <= self.touch_after:
            return
        found = self.store.get(path, MAX_ENTRY)
        if found is not None:
            self.store.put_if_match(path, found.data, found.etag)

    def objects(self) -> list[tuple[str, Object]]:
        """Keys of all entries with what the store says of them, the least recently used first."""
        found = [(_key_of(o.key), o) for o in self.store.list(ENTRIES)]
        rows = [(key, o) for key, o in found if key is not None]
        return sorted(rows, key=lambda row: (row[1].modified, row[0]))

    def files(self) -> Iterator[tuple[str, Object]]:
        """Digests of all files with what the store says of them."""
        for found in self.store.list(BLOB_PREFIX):
            name = found.key.removeprefix(BLOB_PREFIX)
            if len(name) == 64:
                yield f"sha256:{name}", found

    def newest(self, limit: int) -> list[Entry]:
        """At most so many entries, those used last first. Damaged ones are left out."""
        entries: list[Entry] = []
        for key, _ in reversed(self.objects()[-limit:]):
            try:
                entry = self.find(key)
            except BundleError:
                continue
            if entry is not None:
                entries.append(entry)
        return entries

    def _at(self, path: str) -> str:
        return f"{self.store.uri}/{path}"


def file_blob(path: Path) -> Blob:
    """What an entry says of a file."""
    return Blob(digest_file(path), path.stat().st_size, _FILE_TYPE)


def _path(key: str) -> str:
    return f"{ENTRIES}{hex_of(key)}.json"


def _key_of(path: str) -> str | None:
    try:
        return check_digest(f"sha256:{path.removeprefix(ENTRIES).removesuffix('.json')}")
    except BundleError:
        return None
