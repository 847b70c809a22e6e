"""The cache of one build: the disk in front, another store behind it, and what became of each key.

A cache is a help, never a need: what cannot be reached or is damaged is told, and done without.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from partitioner.artifacts.cachedir import cache_dir
from partitioner.artifacts.store.local import LocalStore
from partitioner.artifacts.store.locations import open_store
from partitioner.caching.entries import Entry
from partitioner.caching.history import BuildRecord, Lookup, explain, write_record
from partitioner.caching.keys import Key
from partitioner.caching.options import CacheOptions
from partitioner.caching.pruning import prune
from partitioner.caching.storage import Entries, file_blob
from partitioner.errors import BundleError, PartitionerError, StoreError

__all__ = ["CompileCache", "Found", "open_disk", "open_remote"]

T = TypeVar("T")

#: Kinds that are looked up beside another, so that a miss of theirs says nothing.
_SILENT = frozenset({"failure", "limited"})

#: Seconds after which a use of a remote entry is written down.
_REMOTE_TOUCH = 86400.0

#: Entries that are looked at to explain misses; each is a request.
_LOOKED_AT = {"disk": 256, "remote": 32}


@dataclass(frozen=True)
class Found:
    """An entry and its files, by role.

    Args:
        where: ``disk`` or ``remote``.
    """

    entry: Entry
    files: dict[str, Path]
    where: str


def open_disk(folder: Path | None = None) -> Entries:
    """The cache on this disk; None for the host's own. It may not exist yet."""
    return Entries(LocalStore(folder or cache_dir("compile")), touch_after=0.0)


def open_remote(options: CacheOptions) -> Entries | None:
    """The cache in a store, in a folder of its own there, apart from bundles.

    Raises:
        UsageError: no address of a store.
        MissingDependencyError: the store's client is not installed.
    """
    if options.remote is None:
        return None
    address = f"{options.remote.rstrip('/')}/compile-cache"
    return Entries(open_store(address, options.store), _REMOTE_TOUCH)


@dataclass
class CompileCache:
    """Looks up and keeps, on disk and behind it. May be used by several threads.

    Attributes:
        options: the mode is not ``off``.
        pipeline: the label of what is built.
        lookups: what became of each key, in order.
        warnings: what could not be reached, or was damaged.
    """

    options: CacheOptions
    pipeline: str
    disk: Entries
    remote: Entries | None
    lookups: list[Lookup] = field(default_factory=list[Lookup])
    warnings: list[str] = field(default_factory=list[str])
    _kept: bool = False
    _failed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _known: dict[str, list[Entry]] = field(default_factory=dict[str, list[Entry]])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: dict[str, threading.Lock] = field(default_factory=dict[str, threading.Lock])

    @classmethod
    def open(cls, options: CacheOptions, pipeline: str) -> CompileCache | None:
        """None if the mode is ``off``.

        Raises:
            UsageError: the remote address is none.
            MissingDependencyError: the remote store's client is not installed.
        """
        if options.mode == "off":
            return None
        return cls(options, pipeline, open_disk(options.folder), open_remote(options))

    @property
    def writes(self) -> bool:
        """Whether what is found out is kept."""
        return self.options.mode != "read"

    @contextmanager
    def turn(self, key: Key) -> Generator[None]:
        """One thread at a time for a key: who comes second finds what the first has kept."""
        with self._lock:
            own = self._turns.setdefault(key.digest, threading.Lock())
        with own:
            yield

    def find(self, kind: str, name: str, key: Key, folder: Path) -> Found | None:
        """The entry of a key, with its files in a folder of the caller's.

        What is only in the remote cache is kept on disk, too.
        """
        for place in self._places():
            found = self._try(place, "read", lambda p=place: self._find_in(p, kind, key, folder))
            if found is None:
                continue
            if self.writes:
                self._note_use(place, found)
            self.lookups.append(Lookup(kind, name, key.digest, place))
            return found
        if kind not in _SILENT:
            differences, nearest = self._explained(kind, name, key)
            self.lookups.append(Lookup(kind, name, key.digest, "", differences, nearest))
        return None

    def reject(self, found: Found, error: BundleError) -> None:
        """Drop an entry that was found and turns out to be damaged; its last lookup is a miss."""
        entry = found.entry
        with self._lock:
            keys = [lookup.key for lookup in self.lookups]
            last = self.lookups.pop(len(keys) - 1 - keys[::-1].index(entry.key.digest))
            if last.kind not in _SILENT:
                self.lookups.append(Lookup(last.kind, last.name, last.key, ""))
        for place in self._places():
            self._drop(place, entry.key, entry, error)

    def keep(
        self, kind: str, name: str, key: Key, files: Mapping[str, Path], note: dict[str, Any]
    ) -> None:
        """Keep what was found out."""
        if not self.writes:
            return
        blobs = {role: file_blob(path) for role, path in files.items()}
        entry = Entry(kind, self.pipeline, name, key, blobs, note)
        for place, entries in self._places().items():
            self._try(place, "write", lambda e=entries: e.keep(entry, files))
        self._kept = True

    def finish(self) -> dict[str, Any]:
        """Write down what became of this build's keys, and keep the disk's part within its limit.

        Returns:
            the same for the build's report.
        """
        record = BuildRecord(self.pipeline, self.options.mode, tuple(self.lookups), ())
        if self._kept:
            self._try("disk", "write", lambda: prune(self.disk, self.options.limit))
        if self.writes:
            self._try("disk", "write", lambda: write_record(self.disk.store, record))
        return replace(record, warnings=tuple(self.warnings)).to_json()

    # --- inside ---

    def _places(self) -> dict[str, Entries]:
        return {"disk": self.disk} | ({} if self.remote is None else {"remote": self.remote})

    def _try(self, place: str, way: str, act: Callable[[], T]) -> T | None:
        """What ``act`` gives; None, and a warning, where the store is of no use.

        Args:
            way: ``read`` or ``write``: who may not write may yet read. Either is tried until it
                has failed once in a build.
        """
        if (place, way) in self._failed:
            return None
        try:
            return act()
        except StoreError as error:
            self._failed.add((place, way))
            self._warn(f"the compile cache ({place}, to {way}) cannot be used: {error.what}", error)
            return None

    def _find_in(self, place: str, kind: str, key: Key, folder: Path) -> Found | None:
        entries, entry = self._places()[place], None
        try:
            entry = entries.find(key.digest)
            if entry is None or entry.kind != kind:
                return None
            return Found(entry, entries.fetch(entry, folder / place), place)
        except BundleError as error:
            self._drop(place, key, entry, error)
            return None

    def _note_use(self, place: str, found: Found) -> None:
        self._try(place, "write", lambda: self._places()[place].touch(found.entry))
        if place != "disk":
            self._try("disk", "write", lambda: self.disk.keep(found.entry, found.files))

    def _drop(self, place: str, key: Key, entry: Entry | None, error: BundleError) -> None:
        self._warn(f"an entry of the compile cache is damaged, and dropped: {error.what}", error)
        if self.writes:
            drop = self._places()[place].drop
            self._try(place, "write", lambda: drop(key.digest, entry))

    def _warn(self, text: str, error: PartitionerError) -> None:
        line = f"{text} ({error.where})" if error.where else text
        if line not in self.warnings:
            self.warnings.append(line)

    def _explained(self, kind: str, name: str, key: Key) -> tuple[tuple[str, ...], str]:
        """What sets a key apart from the nearest entry, on disk if there is one like it."""
        for place in self._places():
            found = explain(kind, self.pipeline, name, key, self._before(place))
            if found is not None:
                return found
        return (), ""

    def _before(self, place: str) -> list[Entry]:
        """Entries that were there before this build's own."""
        if place not in self._known:
            newest = self._places()[place].newest
            self._known[place] = self._try(place, "read", lambda: newest(_LOOKED_AT[place])) or []
        return self._known[place]
