"""What became of a build's keys: found, or what is different in the entry most like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.digest import digest_bytes, hex_of
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.store.base import Store
from partitioner.caching.entries import MAX_ENTRY, Entry
from partitioner.caching.keys import Key, compare_keys
from partitioner.errors import BundleError

__all__ = ["BuildRecord", "Lookup", "explain", "read_records", "write_record"]

#: Where the last build of each pipeline stands in the cache on disk, by its label's digest.
_BUILDS = "builds/"


@dataclass(frozen=True)
class Lookup:
    """What became of one key.

    Args:
        kind, name: of what was looked for.
        where: ``disk`` or ``remote``; empty for a miss.
        differences: what sets the key apart from the nearest entry's: part, old and new value.
        nearest: the pipeline and name of that entry; empty if nothing is like it.
    """

    kind: str
    name: str
    key: str
    where: str
    differences: tuple[str, ...] = ()
    nearest: str = ""

    def text(self) -> str:
        """One line for people."""
        if self.where:
            return f"{self.kind} {self.name}: from the cache ({self.where})"
        if not self.nearest:
            return f"{self.kind} {self.name}: made anew, nothing like it was kept"
        return (
            f"{self.kind} {self.name}: made anew; other than in {self.nearest} are "
            f"{', '.join(self.differences)}"
        )


@dataclass(frozen=True)
class BuildRecord:
    """What became of the keys of one build.

    Args:
        pipeline: its label.
    """

    pipeline: str
    mode: str
    lookups: tuple[Lookup, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For reports, and to be kept."""
        return encode(self)


def write_record(store: Store, record: BuildRecord) -> None:
    """Keep the record of a build in place of the one before, of the same pipeline.

    Raises:
        StoreError: it cannot be written.
    """
    key = f"{_BUILDS}{hex_of(digest_bytes(record.pipeline.encode()))}.json"
    data = dumps(record.to_json())
    found = store.get(key, MAX_ENTRY)
    # Of two builds at once either may be the last.
    if found is None:
        store.put_if_absent(key, data)
    else:
        store.put_if_match(key, data, found.etag)


def read_records(store: Store) -> list[BuildRecord]:
    """The last build of each pipeline, those that ended last first."""
    records: list[BuildRecord] = []
    for entry in sorted(store.list(_BUILDS), key=lambda e: -e.modified):
        found = store.get(entry.key, MAX_ENTRY)
        if found is None:
            continue
        try:
            records.append(cast(BuildRecord, decode(BuildRecord, loads(found.data, entry.key))))
        except BundleError:
            # Nothing depends on it; the next build writes another.
            store.delete(entry.key)
    return records


def explain(
    kind: str, pipeline: str, name: str, key: Key, entries: Iterable[Entry]
) -> tuple[tuple[str, ...], str] | None:
    """What sets a key apart from the entry most like it; None if there is none.

    Most alike is one of the same pipeline and name, then the one with most equal parts, then the
    one used last.

    Args:
        entries: those used last first.
    """

    def likeness(entry: Entry) -> tuple[bool, int]:
        same = (entry.pipeline, entry.name) == (pipeline, name)
        return same, len(key.parts) - len(compare_keys(key, entry.key))

    rows = [entry for entry in entries if entry.kind == kind]
    nearest = max(rows, key=likeness, default=None)
    # Of other segments, one that shares versions and options only is not like it.
    if nearest is None or not (likeness(nearest)[0] or _shares_content(key, nearest.key)):
        return None
    texts = tuple(str(difference) for difference in compare_keys(key, nearest.key))
    return texts, f"{nearest.pipeline}/{nearest.name}"


def _shares_content(key: Key, other: Key) -> bool:
    """Whether the first part, what is compiled or checked, is the same."""
    return key.parts[0] == other.parts[0]
