"""The mark of a collection that runs, and how its age is told without trusting any clock of ours.

The mark is an object; its age is the difference of two times that the store itself wrote. A
collection renews the mark, and removes nothing once it has not done so for ``HOLD``; others take
it for dead after ``LEASE``, which leaves time for a request that is under way.
"""

from __future__ import annotations

import time
import uuid

from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.store.base import Document, Store
from partitioner.artifacts.store.layout import GC_KEY, MAX_DOCUMENT, write_digests, writer_key
from partitioner.errors import ConflictError, StoreError

__all__ = ["HOLD", "LEASE", "Lease", "is_collecting", "store_time"]

#: Seconds after which a mark that was not renewed is taken for that of a killed collection.
LEASE = 300.0

#: Seconds after its last renewal for which a collection may remove things. The clients' own
#: retries of one request end in less than LEASE - HOLD.
HOLD = 60.0


def store_time(store: Store) -> float:
    """Now, by the store's clock, in seconds since 1970."""
    key = writer_key(f"clock-{uuid.uuid4().hex}")
    store.put_if_absent(key, write_digests([]))
    try:
        entry = store.head(key)
    finally:
        store.delete(key)
    if entry is None:
        raise StoreError("the store has not kept what was just written", where=store.uri)
    return entry.modified


def is_collecting(store: Store) -> bool:
    """Whether a collection is running."""
    mark = store.head(GC_KEY)
    return mark is not None and store_time(store) - mark.modified <= LEASE


class Lease:
    """The mark of this collection.

    Raises:
        ConflictError: another collection is running.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._data = b""
        self._renewed = 0.0
        found = store.get(GC_KEY, MAX_DOCUMENT)
        if found is not None and is_collecting(store):
            raise ConflictError(
                "another collection is running",
                where=store.uri,
                advice=f"wait for its end; a killed one is forgotten after {LEASE:.0f} s",
            )
        self._write(found)
        #: Now by the store's clock, when the mark was written.
        self.started = store_time(store)
        self._monotonic = time.monotonic()

    def now(self) -> float:
        """Now, by the store's clock."""
        return self.started + time.monotonic() - self._monotonic

    def hold(self) -> None:
        """Make sure that the mark is this collection's own; before each removal.

        Raises:
            ConflictError: another has taken over.
        """
        if time.monotonic() - self._renewed > HOLD / 2:
            self._write(self._own())

    def release(self) -> None:
        """Remove the mark, unless it is another's by now."""
        found = self._store.get(GC_KEY, MAX_DOCUMENT)
        if found is not None and found.data == self._data:
            self._store.delete(GC_KEY)

    def _own(self) -> Document:
        found = self._store.get(GC_KEY, MAX_DOCUMENT)
        if found is None or found.data != self._data:
            raise self._lost()
        return found

    def _write(self, over: Document | None) -> None:
        start = time.monotonic()
        data = dumps({"id": uuid.uuid4().hex})
        if over is None:
            done = self._store.put_if_absent(GC_KEY, data)
        else:
            done = self._store.put_if_match(GC_KEY, data, over.etag)
        if not done:
            raise self._lost()
        self._data, self._renewed = data, start

    def _lost(self) -> ConflictError:
        return ConflictError(
            "another collection has taken over",
            where=self._store.uri,
            advice="this one was too slow; nothing is lost, and the other goes on",
        )
