"""The cache of one build: the disk in front, another store behind it, and what became of each key.

A cache is a help, never a need: what cannot be reached or is damaged is told, and done without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from partitioner.errors import BundleError, StoreError

__all__ = ["CompileCache", "Found", "open_disk", "open_remote"]

T = TypeVar("T")

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
    """Looks up and keeps, on disk and behind it.

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
    _known: dict[str, list[Entry]] = field(default_factory=dict[str, list[Entry]])

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

    def find(self, kind: str, name: str, key: Key, folder: Path) -> Found | None:
        """The entry of a key, with its files in a folder of the caller's.

        What is only in the remote cache is kept on disk, too.
        """
        for where, entries in self._places():
            entry = self._try(where, lambda e=entries: self._sound(e, key))
            if entry is None or entry.kind != kind:
                continue
            files = self._try(where, lambda e=entries, x=entry: self._fetch(e, x, folder / where))
            if files is None:
                continue
            if self.writes:
                self._try(where, lambda e=entries, x=entry: e.touch(x))
                if where == "remote":
                    self._try("disk", lambda x=entry, f=files: self.disk.keep(x, f))
            self.lookups.append(Lookup(kind, name, key.digest, where))
            return Found(entry, files, where)
        if kind == "failure":
            return None
        differences, nearest = self._explained(kind, name, key)
        self.lookups.append(Lookup(kind, name, key.digest, "", differences, nearest))
        return None

    def reject(self, found: Found, error: BundleError) -> None:
        """Drop an entry that was found and turns out to be damaged; the last lookup is a miss."""
        last = self.lookups.pop()
        self.lookups.append(Lookup(last.kind, last.name, last.key, ""))
        for where, entries in self._places():
            self._try(where, lambda e=entries: self._damaged(e, found.entry.key, found.entry, error))

    def keep(
        self, kind: str, name: str, key: Key, files: Mapping[str, Path], note: dict[str, object]
    ) -> None:
        """Keep what was found out."""
        if not self.writes:
            return
        blobs = {role: file_blob(path) for role, path in files.items()}
        entry = Entry(kind, self.pipeline, name, key, blobs, note)
        self._kept = True
        for where, entries in self._places():
            self._try(where, lambda e=entries: e.keep(entry, files))

    def finish(self) -> dict[str, Any]:
        """Write down what became of this build's keys, and keep the disk's part within its limit.

        Returns:
            the same for the build's report.
        """
        if self._kept:
            self._try("disk", lambda: prune(self.disk, self.options.limit))
        record = BuildRecord(self.pipeline, self.options.mode, tuple(self.lookups), ())
        if self.writes:
            self._try("disk", lambda: write_record(self.disk.store, record))
        return replace(record, warnings=tuple(self.warnings)).to_json()

    # --- inside ---

    def _places(self) -> Iterator[tuple[str, Entries]]:
        yield "disk", self.disk
        if self.remote is not None:
            yield "remote", self.remote

    def _try(self, where: str, act: Callable[[], T]) -> T | None:
        """What ``act`` gives; None, and a warning, where the store is of no use."""
        try:
            return act()
        except StoreError as error:
            self._warn(f"the compile cache ({where}) cannot be used: {error.what}", error.where)
            if where == "remote":
                self.remote = None  # Asked once, not at each segment.
        return None

    def _sound(self, entries: Entries, key: Key) -> Entry | None:
        try:
            return entries.find(key.digest)
        except BundleError as error:
            self._damaged(entries, key, None, error)
            return None

    def _fetch(self, entries: Entries, entry: Entry, folder: Path) -> dict[str, Path] | None:
        try:
            return entries.fetch(entry, folder)
        except BundleError as error:
            self._damaged(entries, entry.key, entry, error)
            return None

    def _damaged(self, entries: Entries, key: Key, entry: Entry | None, error: BundleError) -> None:
        self._warn(f"an entry of the compile cache is damaged, and dropped: {error.what}", error.where)
        if self.writes:
            entries.drop(key.digest, entry)

    def _warn(self, text: str, where: str | None) -> None:
        line = f"{text} ({where})" if where else text
        if line not in self.warnings:
            self.warnings.append(line)

    def _explained(self, kind: str, name: str, key: Key) -> tuple[tuple[str, ...], str]:
        """What sets a key apart from the nearest entry, on disk if there is one like it."""
        for where, entries in self._places():
            found = explain(kind, self.pipeline, name, key, self._before(where, entries))
            if found is not None:
                return found
        return (), ""

    def _before(self, where: str, entries: Entries) -> list[Entry]:
        """Entries that were there before this build's own."""
        if where not in self._known:
            self._known[where] = self._try(where, lambda: entries.newest(_LOOKED_AT[where])) or []
        return self._known[where]
