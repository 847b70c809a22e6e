"""One blob from a store to a file: in parallel, resumed after a kill, hashed while it arrives.

1. A large blob is cut into a few ranges, each read by a connection of its own and written where
   it belongs. How far each has come stands in a file beside, written after the data.
2. Meanwhile what has arrived from the beginning on is hashed, so the hash is ready with the blob.
3. A connection that breaks goes on from where it broke. A blob that has another hash than its
   name is fetched anew once, if part of it was an earlier run's.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from partitioner.artifacts.faults import damaged
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import InterruptedReadError, Progress, Store
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.retry import ATTEMPTS, pause
from partitioner.errors import BundleError, StoreError

__all__ = ["fetch"]

#: Bytes of the smallest range: below this a further connection costs more than it brings.
_RANGE = 16 * 2**20

#: Bytes between two notes of how far a range has come.
_NOTE = 8 * 2**20

_PIECE = 2**20


def fetch(store: Store, blob: Blob, path: Path, threads: int, progress: Progress) -> None:
    """Write a blob to a file, which an earlier call may have begun. The caller holds a lock on it.

    Args:
        path: on disk with the right content when this returns; else what has come so far.
        threads: connections at once.

    Raises:
        BundleError: the store has other content under the blob's digest.
        NotInStoreError: the store does not have it.
        StoreError: it cannot be reached.
    """
    for _ in range(2):
        arrival = _Arrival(blob, path, threads)
        arrival.run(store, progress)
        if arrival.digest == blob.digest:
            arrival.notes.unlink(missing_ok=True)
            return
        path.unlink()
        arrival.notes.unlink(missing_ok=True)
        if not arrival.resumed:
            break
    raise damaged(
        f"the store has other content under the digest {blob.digest}",
        f"{store.uri}/{blob_key(blob.digest)}",
    )


class _Arrival:
    """A blob on its way."""

    def __init__(self, blob: Blob, path: Path, threads: int) -> None:
        self.blob = blob
        self.path = path
        self.notes = path.with_name(f"{path.name}.json")
        self.digest = ""
        earlier = _read_notes(self.notes, blob.size) if path.is_file() else None
        self.resumed = earlier is not None
        self._ranges = earlier or _cut(blob.size, threads)
        self._came = threading.Condition()
        self._failed = False

    def run(self, store: Store, progress: Progress) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.path, flags if self.resumed else flags | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(handle, self.blob.size)
            progress(sum(done - start for start, done, _ in self._ranges))
            with ThreadPoolExecutor(len(self._ranges), "fetch") as pool:
                jobs = [
                    pool.submit(self._read_range, store, handle, index, progress)
                    for index in range(len(self._ranges))
                ]
                self._hash(handle)
                wait(jobs)
                for job in jobs:
                    job.result()
            os.fsync(handle)
        finally:
            os.close(handle)

    def _read_range(self, store: Store, handle: int, index: int, progress: Progress) -> None:
        failures = 0
        try:
            while self._left(index):
                before = self._ranges[index][1]
                try:
                    self._copy(store, handle, index, progress)
                except InterruptedReadError as error:
                    failures = 1 if self._ranges[index][1] > before else failures + 1
                    if failures == ATTEMPTS:
                        raise StoreError(
                            f"the connection keeps breaking: {error}",
                            where=f"{store.uri}/{blob_key(self.blob.digest)}",
                            advice="a next run goes on from here",
                        ) from error
                    pause(failures)
        except BaseException:
            with self._came:
                self._failed = True
                self._came.notify_all()
            raise
        finally:
            self._note()

    def _copy(self, store: Store, handle: int, index: int, progress: Progress) -> None:
        _, done, stop = self._ranges[index]
        noted = done
        for piece in store.read(blob_key(self.blob.digest), done, stop):
            if done + len(piece) > stop:
                raise StoreError("the store gives more bytes than were asked for", where=store.uri)
            _write_at(handle, piece, done)
            done += len(piece)
            with self._came:
                self._ranges[index] = (self._ranges[index][0], done, stop)
                self._came.notify_all()
                if self._failed:
                    return
            progress(len(piece))
            if done - noted >= _NOTE:
                noted = done
                self._note()

    def _left(self, index: int) -> int:
        with self._came:
            return 0 if self._failed else self._ranges[index][2] - self._ranges[index][1]

    def _note(self) -> None:
        if self.blob.size < _NOTE:
            return
        with self._came:
            text = dumps({"ranges": [list(row) for row in self._ranges]})
            partial = self.notes.with_suffix(".new")
            partial.write_bytes(text)
            partial.replace(self.notes)

    def _hash(self, handle: int) -> None:
        """Hash from the beginning as far as has come, until all has, or a range has failed."""
        hasher, done = hashlib.sha256(), 0
        while done < self.blob.size:
            with self._came:
                while (there := self._frontier()) == done and not self._failed:
                    self._came.wait()
                if self._failed:
                    return
            while done < there:
                piece = os.pread(handle, min(_PIECE, there - done), done)
                hasher.update(piece)
                done += len(piece)
        self.digest = f"sha256:{hasher.hexdigest()}"

    def _frontier(self) -> int:
        end = 0
        for start, done, stop in self._ranges:
            if start != end:
                break
            end = done
            if done != stop:
                break
        return end


def _cut(size: int, threads: int) -> list[tuple[int, int, int]]:
    """Ranges as start, done, stop."""
    count = max(1, min(threads, size // _RANGE))
    borders = [size * index // count for index in range(count + 1)]
    return [(a, a, b) for a, b in itertools.pairwise(borders)]


def _read_notes(path: Path, size: int) -> list[tuple[int, int, int]] | None:
    """The ranges of an earlier run; None if its notes are missing or do not fit."""
    try:
        rows = loads(path.read_bytes(), "notes")["ranges"]
        ranges = [(int(start), int(done), int(stop)) for start, done, stop in rows]
    except (OSError, BundleError, KeyError, TypeError, ValueError):
        return None
    end = 0
    for start, done, stop in ranges:
        if start != end or not start <= done <= stop:
            return None
        end = stop
    return ranges if ranges and end == size else None


def _write_at(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, offset)
        view, offset = view[count:], offset + count
