"""Writing a bundle: all of it or nothing, and the same bytes each time.

Blobs are hashed while they are written, and one with the content of another is kept once. Nothing
in a bundle tells when, where or by whom it was written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import Blob, Manifest
from partitioner.artifacts.oci import (
    BLOBS,
    CONFIG_TYPE,
    IMAGE_TYPE,
    INDEX_FILE,
    INDEX_TYPE,
    LAYOUT_FILE,
    Member,
    write_image,
    write_index,
    write_layout,
    write_members,
)
from partitioner.artifacts.staging import Staging, sync_directory
from partitioner.errors import BundleError, OutputError

__all__ = ["BundleWriter", "as_output_errors", "refuse_existing", "write_file"]

#: Hashed and written in turn, while it is in the processor's cache.
_PIECE = 2**18

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EXISTS = (errno.EEXIST, errno.ENOTEMPTY)


class BundleWriter:
    """A context in which blobs are added and a manifest is committed.

    A bundle of several members: for each its blobs are added, then its manifest by
    :meth:`add_member`; :meth:`publish` ends it. For one member :meth:`commit` does both.

    The bundle appears at ``path`` as a whole. Leaving the context without it,
    by an exception, Ctrl-C or SIGTERM (where the program does not handle that itself), leaves
    nothing; what a killed process leaves is removed by the next writer to that path.

    Args:
        path: the directory to make.
        overwrite: replace a bundle that is there; without it that is an error.

    Attributes:
        path: absolute.
        blobs: those added for the next member, by digest.
        members: those that are complete, in order.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path).absolute()
        self.overwrite = overwrite
        self.blobs: dict[str, Blob] = {}
        self.members: list[Member] = []
        self._staging: Staging | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the temporary directory.

        Raises:
            OutputError: the output exists, or cannot be written.
        """
        refuse_existing(self.path, overwrite=self.overwrite)
        with self._stack as stack, as_output_errors(self.path):
            stack.enter_context(_terminable())
            self._staging = Staging(self.path)
            stack.callback(self._staging.discard)
            self.blobs_dir.mkdir(parents=True)
            for path in (self.blobs_dir, self.blobs_dir.parent):
                path.chmod(0o755)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._staging = None
        self._stack.close()

    @property
    def blobs_dir(self) -> Path:
        """Where the blobs are; file names are hex digests. ``commit`` moves it."""
        return (self._staging.path if self._staging is not None else self.path) / BLOBS

    def blob_path(self, digest: str) -> Path:
        """The file of a blob that was added; open files and maps outlast ``commit``."""
        return self.blobs_dir / hex_of(digest)

    def add_bytes(self, data: bytes, media_type: str) -> Blob:
        """Add a blob of some bytes.

        Raises:
            OutputError: it cannot be written.
        """
        return self.add_chunks([data], media_type)

    def add_file(self, path: Path, media_type: str) -> Blob:
        """Add a copy of a file as blob.

        Raises:
            OutputError: the file cannot be read, or the copy not be written.
        """
        return self.add_chunks(_pieces_of(path), media_type)

    def add_chunks(self, chunks: Iterable[Any], media_type: str) -> Blob:
        """Add a blob from buffers that are C-contiguous, one at a time.

        Returns:
            the blob; one of equal content that was added for the same member before, with its
            media type, if any.

        Raises:
            OutputError: it cannot be written.
        """
        blob = self._store(chunks, media_type)
        return self.blobs.setdefault(blob.digest, blob)

    def commit(self, manifest: Manifest) -> str:
        """Write the manifest and give the bundle its name.

        Args:
            manifest: its ``blobs`` are this writer's, sorted by digest.

        Returns:
            the digest of the bundle: that of its OCI manifest.

        Raises:
            BundleError: a manifest that :meth:`Manifest.from_json` would refuse.
            OutputError: it cannot be written, or the output exists by now.
        """
        self.add_member(manifest)
        return self.publish()

    def add_member(
        self, manifest: Manifest, labels: Mapping[str, str] | None = None, machine: str = ""
    ) -> None:
        """Write a manifest; blobs that are added from now on are the next member's.

        Args:
            manifest: its ``blobs`` are those added for it, sorted by digest.
            labels: that tell it from other members, target and batch by default.
            machine: a ``platform.machine()`` that it is for, empty for any.

        Raises:
            as :meth:`commit`.
        """
        data = self._checked(manifest)
        config = self._store([data], CONFIG_TYPE)
        image = self._store([write_image(config, manifest.blobs)], IMAGE_TYPE)
        labels = dict(labels or manifest.labels)
        self.members.append(Member(image, labels, machine))
        self.blobs = {}

    def publish(self) -> str:
        """Give the bundle of the members that were added its name.

        Returns:
            the digest of the bundle: that of its root.

        Raises:
            OutputError: it cannot be written, or the output exists by now.
            ValueError: no member was added.
        """
        root = self._root()
        staging = self._active()
        with as_output_errors(self.path):
            write_file(staging.path / LAYOUT_FILE, write_layout())
            write_file(staging.path / INDEX_FILE, write_index(root))
            for directory in (self.blobs_dir, self.blobs_dir.parent, staging.path):
                sync_directory(directory)
            self._publish(staging)
        self._staging = None
        self._stack.close()
        return root.digest

    # --- inside ---

    def _active(self) -> Staging:
        if self._staging is None:
            raise RuntimeError("a BundleWriter is used inside its context, until it commits")
        return self._staging

    def _root(self) -> Blob:
        if not self.members:
            raise ValueError("a bundle has a member at least")
        if len(self.members) == 1:
            return self.members[0].image
        return self._store([write_members(self.members)], INDEX_TYPE)

    def _store(self, chunks: Iterable[Any], media_type: str) -> Blob:
        """Write a blob under a passing name, then under that of its digest."""
        partial = self._active().path / f"{uuid.uuid4().hex}.blob"
        hasher, size = hashlib.sha256(), 0
        try:
            with as_output_errors(self.path):
                file = partial.open("xb", buffering=0)
            with file:
                for piece in _pieces(chunks):
                    hasher.update(piece)
                    size += len(piece)
                    with as_output_errors(self.path):
                        _write_all(file, piece)
                with as_output_errors(self.path):
                    os.fchmod(file.fileno(), 0o444)
                    os.fsync(file.fileno())
            blob = Blob(f"sha256:{hasher.hexdigest()}", size, media_type)
            with as_output_errors(self.path):
                self._name(partial, blob)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return blob

    def _name(self, partial: Path, blob: Blob) -> None:
        # What is there may be mapped, and is the same.
        path = self.blob_path(blob.digest)
        if path.exists():
            partial.unlink()
        else:
            partial.rename(path)

    def _publish(self, staging: Staging) -> None:
        refuse_existing(self.path, overwrite=self.overwrite)
        try:
            staging.publish(replace=self.overwrite)
        except OSError as error:
            if error.errno in _EXISTS:
                raise _exists(self.path) from error
            raise

    def _checked(self, manifest: Manifest) -> bytes:
        """The manifest as it will be read: what could not be read is not written."""
        if manifest.blobs != tuple(blob for _, blob in sorted(self.blobs.items())):
            _refuse_manifest("its blobs are not those that were added, sorted by digest", None)
        data = manifest.to_json()
        try:
            Manifest.from_json(data)
        except BundleError as error:
            _refuse_manifest(error.what, error.where)
        return data


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that is there, unless it is a bundle and may be replaced.

    Raises:
        OutputError: it is refused.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise _exists(path)
    if path.is_symlink() or not (path / LAYOUT_FILE).is_file():
        raise OutputError(
            "the output exists and is not a bundle, so it is not overwritten",
            where=str(path),
            advice="remove it yourself, or choose another output",
        )


def _pieces_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise OutputError(
            f"a file for the bundle cannot be read: {error.strerror or error}",
            where=str(path),
            advice="it was made by the build; see whether something cleans up the directory",
        ) from error


def _pieces(chunks: Iterable[Any]) -> Iterator[memoryview]:
    """The same bytes in pieces that are neither empty nor large."""
    for chunk in chunks:
        view = memoryview(chunk)
        if view.nbytes == 0:
            continue
        flat = view.cast("B")
        for start in range(0, len(flat), _PIECE):
            yield flat[start : start + _PIECE]


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def write_file(path: Path, data: bytes) -> None:
    """Write a small file that everybody may read, and wait until it is on disk.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with path.open("xb", buffering=0) as file:
        _write_all(file, memoryview(data))
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


# --- failing ------------------------------------------------------------------------------------


@contextmanager
def as_output_errors(path: Path) -> Generator[None]:
    """Turn errors of the operating system, met while writing to ``path``, into output errors.

    Raises:
        OutputError: there was one.
    """
    try:
        yield
    except OSError as error:
        advice = "choose an output directory that can be written; nothing was left behind"
        if error.errno in _FULL:
            advice = "make room on the disk and build again; nothing was left behind"
        raise OutputError(
            f"a file cannot be written: {error.strerror or error}",
            where=str(path),
            advice=advice,
        ) from error


def _exists(path: Path) -> OutputError:
    return OutputError(
        "the output exists already",
        where=str(path),
        advice="choose another output, or pass --overwrite (overwrite=True)",
    )


def _refuse_manifest(what: str, where: str | None) -> NoReturn:
    raise BundleError(
        f"the manifest to be written is not valid: {what}",
        where=where,
        advice="a name or option given to the build may be at fault; if not, report this",
    )


@contextmanager
def _terminable() -> Generator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, where it would end the process at once."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
