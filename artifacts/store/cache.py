"""The local cache of blobs: content-addressed, shared by processes, bounded.

    blobs/sha256/<hex>      read-only files whose content is their name
    partial/<hex>           what is being fetched, or was when a process was killed
    locks/<hex>             held while a blob is fetched or hashed
    verified/<hex>          which file (device, inode, size, times) was hashed, and found right
    used/<hex>              its time is when the blob was last wanted
    lock                    held, shared, while bundles are being opened; alone, while pruning

A blob appears under its name when it is complete, on disk, and of that hash. Files are never
written to in place: they are mapped somewhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from partitioner.artifacts.bundle import Verify
from partitioner.artifacts.digest import digest_stream, hex_of
from partitioner.artifacts.files import open_plain
from partitioner.artifacts.hashed import identity, is_hashed, remember
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.oci import BLOBS
from partitioner.artifacts.staging import sync_directory
from partitioner.artifacts.store.base import Progress, Store
from partitioner.artifacts.store.fetch import fetch
from partitioner.errors import BundleError, StoreError, UsageError

__all__ = ["Cache", "CachedBlob", "default_cache_dir"]

_FOLDERS = (BLOBS, "partial", "locks", "verified", "used")


def default_cache_dir() -> Path:
    """``PARTITIONER_CACHE``, else ``partitioner`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("PARTITIONER_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "partitioner"


@dataclass(frozen=True)
class CachedBlob:
    """A blob of the cache: ``size`` in bytes, ``used`` in seconds since 1970."""

    digest: str
    size: int
    used: float


class Cache:
    """The cache in a directory, made if need be. Thread-safe, and safe among processes.

    Args:
        limit: bytes above which the least recently used blobs are removed after a load; None for
            ``PARTITIONER_CACHE_LIMIT``, else no limit.

    Raises:
        StoreError: the directory cannot be made, or is another user's.
        UsageError: ``PARTITIONER_CACHE_LIMIT`` is no number of bytes.
    """

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        self.root = (root or default_cache_dir()).absolute()
        self.limit = _limit() if limit is None else limit
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            info = self.root.lstat()
        except OSError as error:
            raise _unusable(self.root, error.strerror or str(error)) from error
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (os.getuid(), 0):
            raise _unusable(self.root, "it is no directory of this user")

    def path(self, digest: str) -> Path:
        """Where a blob is, if it is there."""
        return self.root / BLOBS / hex_of(digest)

    def ensure(
        self,
        store: Store,
        blob: Blob,
        verify: Verify,
        *,
        threads: int = 4,
        progress: Progress = lambda count: None,
    ) -> Path:
        """Have a blob, fetched if need be. A file with other content is replaced.

        Args:
            verify: whether a file that is there is hashed: always; unless it was and has not been
                touched since; never. What is fetched is always hashed.

        Raises:
            as :func:`partitioner.artifacts.store.fetch.fetch`.
        """
        path = self.path(blob.digest)
        try:
            with self._lock(f"locks/{path.name}", fcntl.LOCK_EX):
                (self.root / "used" / path.name).touch()
                if self._is_good(path, blob, verify):
                    progress(blob.size)
                    return path
                partial = self.root / "partial" / path.name
                fetch(store, blob, partial, threads, progress)
                partial.chmod(0o444)
                partial.rename(path)
                sync_directory(path.parent)
                with open_plain(path) as (_, info):
                    pass
                self._stamp(path, info, blob.digest)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        return path

    @contextmanager
    def opening(self) -> Generator[None]:
        """Keep blobs from being pruned while a bundle is opened; prune to the limit afterwards.

        Raises:
            StoreError: the cache cannot be written to.
        """
        with self._lock("lock", fcntl.LOCK_SH):
            yield
        if self.limit is not None:
            # Another process that opens a bundle will do it instead.
            with suppress(BlockingIOError):
                self.prune(self.limit, wait=False)

    def list(self) -> list[CachedBlob]:
        """All blobs, the least recently used first."""
        rows: list[CachedBlob] = []
        for path in (self.root / BLOBS).iterdir():
            with suppress(FileNotFoundError):
                size = path.lstat().st_size
                used = self.root / "used" / path.name
                when = used.lstat().st_mtime if used.exists() else path.lstat().st_mtime
                rows.append(CachedBlob(f"sha256:{path.name}", size, when))
        return sorted(rows, key=lambda row: (row.used, row.digest))

    def prune(self, limit: int, *, wait: bool = True) -> list[CachedBlob]:
        """Remove the least recently used blobs until at most ``limit`` bytes are left.

        What killed processes have left of fetches goes, too. Bundles that are loaded go on
        running: their files are mapped, and vanish with the last map.

        Raises:
            BlockingIOError: a bundle is being opened, and ``wait`` is false.
        """
        mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        removed: list[CachedBlob] = []
        with self._lock("lock", mode):
            rows = self.list()
            total = sum(row.size for row in rows)
            for row in rows:
                if total <= limit:
                    break
                self._forget(hex_of(row.digest))
                total -= row.size
                removed.append(row)
            shutil.rmtree(self.root / "partial", ignore_errors=True)
            (self.root / "partial").mkdir(exist_ok=True)
        return removed

    # --- inside ---

    def _is_good(self, path: Path, blob: Blob, verify: Verify) -> bool:
        if not os.path.lexists(path):
            return False
        good = False
        try:
            with open_plain(path) as (file, info):
                good = info.st_size == blob.size and (
                    verify == "never"
                    or (verify == "once" and self._is_known(path, info, blob.digest))
                    or digest_stream(file) == blob.digest
                )
        except BundleError:
            # A link or worse in the blob's place: replaced like any other wrong file.
            pass
        else:
            # Not above: a disk that has no room for the stamp says nothing against the blob.
            if good and verify != "never":
                self._stamp(path, info, blob.digest)
        if not good:
            self._forget(path.name)
        return good

    def _is_known(self, path: Path, info: os.stat_result, digest: str) -> bool:
        if is_hashed(info, digest):
            return True
        stamp = self.root / "verified" / path.name
        try:
            return stamp.read_bytes() == dumps(list(identity(info)))
        except FileNotFoundError:
            return False

    def _stamp(self, path: Path, info: os.stat_result, digest: str) -> None:
        if is_hashed(info, digest):
            return
        remember(info, digest)
        stamp = self.root / "verified" / path.name
        partial = stamp.with_suffix(".new")
        partial.write_bytes(dumps(list(identity(info))))
        partial.replace(stamp)

    def _forget(self, name: str) -> None:
        for folder in ("verified", "used", BLOBS):
            (self.root / folder / name).unlink(missing_ok=True)

    @contextmanager
    def _lock(self, name: str, mode: int) -> Generator[None]:
        path = self.root / name
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        try:
            fcntl.flock(handle, mode)
            yield
        finally:
            os.close(handle)


def _limit() -> int | None:
    text = os.environ.get("PARTITIONER_CACHE_LIMIT")
    if not text:
        return None
    if not text.isdecimal():
        raise UsageError(f"PARTITIONER_CACHE_LIMIT is a number of bytes, not {text!r}")
    return int(text)


def _unusable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the cache cannot be used: {why}",
        where=str(path),
        advice="set PARTITIONER_CACHE to a directory that can be written and has room",
    )
