"""Writing a bundle: all of it or nothing.

Blobs go into a temporary directory beside the output, which gets its name at the end. A process
that is killed leaves the temporary directory; the next writer to the same output removes it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from partitioner.artifacts.bundle import (
    ARTIFACT_TYPE,
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYOUT,
    MANIFEST_TYPE,
)
from partitioner.artifacts.codec import dumps
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import Blob, Manifest
from partitioner.errors import OutputError

__all__ = ["BundleWriter", "as_output_errors"]


class BundleWriter:
    """A context in which blobs are added and a manifest is committed.

    Args:
        path: the directory to make.
        overwrite: replace what is there; without it that is an error.

    Raises:
        OutputError: the output exists, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path).absolute()
        self.overwrite = overwrite
        self.blobs: dict[str, Blob] = {}
        self._temporary = self.path.with_name(
            f".{self.path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.partial"
        )
        self._committed = False

    def __enter__(self) -> BundleWriter:
        self._refuse_existing()
        with as_output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.path)
            (self._temporary / "blobs" / "sha256").mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def blobs_dir(self) -> Path:
        """Where the blobs are until the bundle is committed; file names are hex digests."""
        return self._temporary / "blobs" / "sha256"

    def blob_path(self, digest: str) -> Path:
        """The file of a blob that was added."""
        return self.blobs_dir / hex_of(digest)

    def add_bytes(self, data: bytes, media_type: str) -> Blob:
        """Add a blob of some bytes."""
        return self.add_chunks([data], media_type)

    def add_file(self, path: Path, media_type: str) -> Blob:
        """Add a copy of a file as blob."""

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(2**22):
                    yield chunk

        return self.add_chunks(chunks(), media_type)

    def add_chunks(self, chunks: Iterable[Any], media_type: str) -> Blob:
        """Add a blob from buffers, hashed while it is written; an equal blob is kept once.

        Raises:
            OutputError: it cannot be written.
        """
        partial = self.blobs_dir / f"partial-{uuid.uuid4().hex}"
        hasher, size = hashlib.sha256(), 0
        with as_output_errors(self.path):
            with partial.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    hasher.update(chunk)
                    size += memoryview(chunk).nbytes
                file.flush()
                os.fsync(file.fileno())
            blob = Blob(f"sha256:{hasher.hexdigest()}", size, media_type)
            if blob.digest in self.blobs:
                partial.unlink()
                return self.blobs[blob.digest]
            partial.chmod(0o444)
            partial.rename(self.blob_path(blob.digest))
        self.blobs[blob.digest] = blob
        return blob

    def commit(self, manifest: Manifest) -> str:
        """Write the manifest and give the bundle its name.

        ``manifest.blobs`` must be this writer's blobs, sorted by digest.

        Returns:
            the digest of the bundle.
        """
        layers = [_oci(blob) for blob in manifest.blobs]
        config = self.add_bytes(manifest.to_json(), CONFIG_TYPE)
        oci = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _oci(config),
            "layers": layers,
        }
        top = self.add_bytes(dumps(oci), MANIFEST_TYPE)
        entry = {**_oci(top), "artifactType": ARTIFACT_TYPE}
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
        with as_output_errors(self.path):
            _write_synced(self._temporary / "oci-layout", dumps(LAYOUT))
            _write_synced(self._temporary / "index.json", dumps(index))
            _sync_directory(self.blobs_dir)
            _sync_directory(self._temporary)
            self._publish()
        return top.digest

    def _publish(self) -> None:
        self._refuse_existing()
        aside: Path | None = None
        if self.path.exists():
            aside = self._temporary.with_suffix(".replaced")
            self.path.rename(aside)
        self._temporary.rename(self.path)
        self._committed = True
        _sync_directory(self.path.parent)
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self.overwrite:
            raise OutputError(
                "the output exists already",
                where=str(self.path),
                advice="choose another output, or pass --overwrite (overwrite=True)",
            )
        if self.path.is_symlink() or not (self.path / "oci-layout").is_file():
            raise OutputError(
                "the output exists and is not a bundle, so it is not overwritten",
                where=str(self.path),
                advice="remove it yourself, or choose another output",
            )


def _oci(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


@contextmanager
def as_output_errors(path: Path) -> Iterator[None]:
    """Turn operating system errors while writing to ``path`` into output errors."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError(
            f"a file cannot be written: {error.strerror or error}",
            where=str(error.filename or path),
            advice="make room on the disk and build again; nothing was left behind"
            if full
            else "choose an output directory that can be written",
        ) from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(path: Path) -> None:
    """Remove what killed writers to this output left; put back what they had moved aside."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.[0-9a-f]{{8}}\.(partial|replaced)\Z")
    for other in path.parent.iterdir():
        match = pattern.match(other.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] == "replaced" and not os.path.lexists(path):
            other.rename(path)
        else:
            shutil.rmtree(other, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
