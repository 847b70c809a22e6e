"""What OpenVINO has compiled on this host, in files, so that the next load need not.

An entry is a file: a header of one page (JSON: the digest of what follows, and a note), then the
compiled blob, at a page's border so that it can be mapped. Entries come by rename, so that a
reader sees a whole one or none; one that is damaged is dropped. The least recently used go when
the cache is larger than its limit. An entry says nothing that cannot be made again.

Compiled blobs are machine code's next of kin: the folder belongs to the user alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from partitioner.artifacts.cachedir import (
    PARTIAL,
    VARIABLE,
    cache_dir,
    cache_limit,
    drop_abandoned,
    is_private,
)

__all__ = ["Cache", "Entry"]

_PAGE = 4096


@dataclass(frozen=True)
class Entry:
    """What was kept: bytes, mapped from their file, and a note of JSON values."""

    data: np.ndarray[Any, Any]
    note: Any


class Cache:
    """Entries by key, in a folder.

    Args:
        folder: made when something is kept; None for ``openvino`` in the host's cache.
        limit: bytes that all entries together may take; None for that of the cache.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = folder or cache_dir("openvino")
        self.limit = cache_limit() if limit is None else limit

    def get(self, key: str) -> Entry | None:
        """The entry of a key, checked against its digest; None if there is none, or a bad one."""
        path = self._path(key)
        try:
            if not is_private(self.folder):
                return None
            entry = _read(path)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.drop(key)
            return None
        return entry

    def put(self, key: str, data: bytes | memoryview, note: Any) -> None:
        """Keep bytes. A cache that cannot be written to is warned of, and does without."""
        if len(data) + _PAGE > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if is_private(self.folder):
                drop_abandoned(self.folder)
                self._write(key, data, note)
                self._evict(self._path(key))
        except OSError as error:
            warnings.warn(
                f"nothing is kept in {self.folder}: {error}; set {VARIABLE} to another folder",
                RuntimeWarning,
                stacklevel=2,
            )

    def drop(self, key: str) -> None:
        """Forget an entry, if it is there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _write(self, key: str, data: bytes | memoryview, note: Any) -> None:
        header = {"sha256": hashlib.sha256(data).hexdigest(), "note": note}
        text = json.dumps(header).encode()
        if len(text) >= _PAGE:
            return
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.ljust(_PAGE))
                file.write(data)
            os.replace(name, self._path(key))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _evict(self, newest: Path) -> None:
        """Delete what was used longest ago until the rest fits."""
        total = 0
        for path, size in self._by_use():
            total += size
            if total > self.limit and path != newest:
                path.unlink(missing_ok=True)
                total -= size

    def _by_use(self) -> Iterator[tuple[Path, int]]:
        """Entries and their sizes, the last used first."""
        found: list[tuple[float, str, int]] = []
        for path in self.folder.glob("*.blob"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, path.name, status.st_size))
        for _, name, size in sorted(found, reverse=True):
            yield self.folder / name, size


def _read(path: Path) -> Entry:
    with path.open("rb") as file:
        header: Any = json.loads(file.read(_PAGE))
        if os.fstat(file.fileno()).st_size <= _PAGE:
            raise ValueError("cut short")
        # Copy on write: OpenVINO wants memory it may write to; nothing ever does.
        data = np.memmap(file, np.uint8, "c", _PAGE)
    if not isinstance(header, dict) or hashlib.sha256(data.data).hexdigest() != header.get(
        "sha256"
    ):
        raise ValueError("not what was written")
    return Entry(data, cast("dict[str, Any]", header)["note"])
