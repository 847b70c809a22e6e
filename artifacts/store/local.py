"""A store in a directory, on a disk that the writers share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import open_plain
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.staging import sync_directory
from partitioner.artifacts.store.base import Document, Entry, Progress
from partitioner.errors import BundleError, NotInStoreError, StoreError

__all__ = ["LocalStore"]

_PIECE = 2**20
#: Files that are being written, in a folder of their own; a key never begins with a dot.
_PARTIAL = ".partial"
_LOCK = ".lock"


class LocalStore:
    """A directory; made by the first write.

    A file appears by a hard link, which fails where the name is taken, or by a rename under a
    lock where it is replaced; so nobody sees a half.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def uri(self) -> str:
        return self.root.as_uri()

    def head(self, key: str) -> Entry | None:
        path = self.root / key
        if not os.path.lexists(path):
            return None
        try:
            with _opened(path) as (_, info):
                return Entry(key, info.st_size, info.st_mtime)
        except StoreError:
            if not os.path.lexists(path):
                return None  # Removed between two looks.
            raise

    def get(self, key: str, limit: int) -> Document | None:
        path = self.root / key
        if not os.path.lexists(path):
            return None
        try:
            with _opened(path) as (file, _):
                data = file.read(limit + 1) or b""
        except StoreError:
            if not os.path.lexists(path):
                return None  # Removed between two looks.
            raise
        if len(data) > limit:
            raise StoreError(f"more than {limit} bytes where few are expected", where=str(path))
        return Document(data, hashlib.sha256(data).hexdigest())

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        path = self.root / key
        if not os.path.lexists(path):
            raise NotInStoreError("no such object in the store", where=str(path))
        with _opened(path) as (file, _):
            file.seek(start)
            left = stop - start
            while left and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
        if left:
            raise StoreError(f"the file ends {left} bytes early", where=str(path))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._written(key, [data]) as partial:
            return self._link(partial, key)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        with self._written(key, [data]) as partial, self._locked():
            found = self.get(key, 2**26)
            if found is None or found.etag != etag:
                return False
            partial.replace(self.root / key)
            sync_directory((self.root / key).parent)
            return True

    def upload_if_absent(self, path: Path, blob: Blob, key: str, progress: Progress) -> bool:
        hasher = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            with open_plain(path) as (file, info):
                if info.st_size != blob.size:
                    raise damaged(f"{info.st_size} bytes, declared are {blob.size}", path)
                while piece := file.read(_PIECE):
                    hasher.update(piece)
                    yield piece
                    progress(len(piece))

        with self._written(key, pieces()) as partial:
            if hasher.hexdigest() != hex_of(blob.digest):
                raise damaged("the blob's content was changed", path)
            return self._link(partial, key)

    def list(self, prefix: str) -> Iterator[Entry]:
        folder = self.root / prefix
        if not folder.is_dir():
            return
        for path in sorted(folder.rglob("*")):
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(info.st_mode):
                key = path.relative_to(self.root).as_posix()
                yield Entry(key, info.st_size, info.st_mtime)

    def delete(self, key: str) -> None:
        with _failing(self.root / key):
            (self.root / key).unlink(missing_ok=True)

    def abandon(self, age: float) -> int:
        count = 0
        for entry in self.list(_PARTIAL):
            path = self.root / entry.key
            with suppress(FileNotFoundError), path.open("rb") as file:
                if time.time() - entry.modified > age and _lock_at_once(file.fileno()):
                    path.unlink()
                    count += 1
        return count

    def url(self, key: str, seconds: int) -> str:
        raise StoreError(
            "addresses for a time are made for s3:// only",
            where=self.uri,
            advice="let a web server serve the directory, and load by https://",
        )

    # --- inside ---

    @contextmanager
    def _written(self, key: str, pieces: Iterable[bytes]) -> Generator[Path]:
        """A file with some content, on disk, under a passing name."""
        with _failing(self.root / key):
            (self.root / _PARTIAL).mkdir(parents=True, exist_ok=True)
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            partial, file = _make_locked(self.root / _PARTIAL)
        try:
            with _failing(partial), file:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) :]
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
                yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _link(self, partial: Path, key: str) -> bool:
        target = self.root / key
        with _failing(target):
            try:
                os.link(partial, target)
            except FileExistsError:
                return False
            sync_directory(target.parent)
            return True

    @contextmanager
    def _locked(self) -> Generator[None]:
        with _failing(self.root):
            handle = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _make_locked(folder: Path) -> tuple[Path, FileIO]:
    """A new file whose lock tells, while we live, that it is not a killed writer's."""
    while True:
        path = folder / uuid.uuid4().hex
        file = path.open("xb", buffering=0)
        # Where there are no locks, abandon() finds none either, and removes nothing.
        with suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # Removed before it was locked.


def _lock_at_once(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Generator[tuple[FileIO, os.stat_result]]:
    """A plain file of the store.

    Raises:
        StoreError: a link or device, or it cannot be read.
    """
    try:
        with open_plain(path) as opened:
            yield opened
    except BundleError as error:
        raise StoreError(error.what, where=error.where) from error


@contextmanager
def _failing(path: Path) -> Generator[None]:
    """Turn errors of the operating system into the store's.

    Raises:
        StoreError: there was one.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store's directory cannot be used: {error.strerror or error}",
            where=str(path),
            advice="see that the directory can be written and has room; a next run continues",
        ) from error
