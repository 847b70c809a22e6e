"""Entries of made-up files."""

from __future__ import annotations

from pathlib import Path

from partitioner.caching.entries import Entry
from partitioner.caching.keys import Key, part
from partitioner.caching.storage import Entries, file_blob

__all__ = ["entry_of", "keep", "key_of"]


def key_of(name: str) -> Key:
    return Key((part("graph", {"name": name}), part("weights", {"digest": "same"})))


def entry_of(name: str, files: dict[str, Path]) -> Entry:
    blobs = {role: file_blob(path) for role, path in files.items()}
    return Entry("segment", "pipe", name, key_of(name), blobs, {"options": {"a": 1}})


def keep(entries: Entries, folder: Path, name: str, data: bytes = b"graph") -> Entry:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.graph"
    path.write_bytes(data)
    entry = entry_of(name, {"graph": path})
    entries.keep(entry, {"graph": path})
    return entry
