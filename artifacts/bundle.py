"""Bundles on disk: an OCI image layout, read with distrust.

``writer.py`` writes them. The format is described in ``docs/bundle-format.md``.
"""

from __future__ import annotations

import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.digest import digest_bytes, digest_stream, hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import check_directory, open_plain, read_plain
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob, ConstantRef, Manifest
from partitioner.artifacts.oci import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    read_image,
    read_index,
    read_layout,
)
from partitioner.artifacts.validate import check_ref
from partitioner.errors import BundleError
from partitioner.specs import TensorSpec

__all__ = ["MAX_INDEX_BYTES", "Bundle", "Verify"]

Verify = Literal["always", "once", "never"]

#: ``index.json`` and ``oci-layout`` are small; larger ones are refused unread.
MAX_INDEX_BYTES = 2**20

#: Files whose content this process has hashed: device, inode, size, times of change, digest.
_hashed: set[tuple[int, int, int, int, int, str]] = set()
_lock = threading.Lock()


class Bundle:
    """A bundle that was opened; its manifest is read and checked. Thread-safe.

    Attributes:
        path: the directory.
        digest: of the OCI manifest; it covers all else, so it is the bundle's identity.
        manifest: what it holds.
        verify: when the content of blobs is hashed; see :meth:`open`.
    """

    def __init__(self, path: Path, digest: str, manifest: Manifest, verify: Verify) -> None:
        self.path = path
        self.digest = digest
        self.manifest = manifest
        self.verify: Verify = verify

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: Verify = "once") -> Bundle:
        """Open a bundle. The manifest is always hashed; blobs are when their path is asked for.

        Args:
            verify: when a blob's content is hashed: each time its path is asked for, once per file
                in this process, or never (its size is always checked).

        Raises:
            BundleError: no bundle, damaged, or hostile.
            IncompatibleBundleError: of a schema version that cannot be read.
        """
        root = Path(path).absolute()
        _check_root(root)
        read_layout(read_plain(root / LAYOUT_FILE, MAX_INDEX_BYTES))
        image = read_index(read_plain(root / INDEX_FILE, MAX_INDEX_BYTES))
        config, layers = read_image(_read_blob(root, image, MAX_MANIFEST_BYTES))
        manifest = Manifest.from_json(_read_blob(root, config, MAX_MANIFEST_BYTES))
        if layers != manifest.blobs:
            raise damaged("the OCI manifest and the bundle's manifest list different blobs", root)
        return cls(root, image.digest, manifest, verify)

    @property
    def blobs_dir(self) -> Path:
        """The directory in which a blob's file has its hexadecimal digits as name."""
        return self.path / BLOBS

    def blob_path(self, digest: str) -> Path:
        """The path of a blob whose content is as declared.

        Raises:
            BundleError: not declared, missing, not a plain file, of another size or content.
        """
        return self._verified(digest, self.verify)

    def read(self, digest: str) -> bytes:
        """The content of a blob, hashed whatever the mode.

        Raises:
            BundleError: as :meth:`blob_path`.
        """
        blob = self.manifest.blob(digest)
        return _read_blob(self.path, blob, blob.size)

    def check(self) -> None:
        """Hash every blob, whatever the mode.

        Raises:
            BundleError: at the first that is not as declared.
        """
        for blob in self.manifest.blobs:
            self._verified(blob.digest, "always")

    def constant(self, ref: ConstantRef, spec: TensorSpec) -> npt.NDArray[Any]:
        """A tensor in a blob, as a read-only memory-mapped array.

        Raises:
            BundleError: as :meth:`blob_path`; or ``ref`` does not hold a tensor of that spec; or
                it is bfloat16, which NumPy does not know.
        """
        check_ref(self.manifest, ref, spec, "a constant")
        if spec.dtype == "bfloat16":
            raise damaged("a bfloat16 tensor crosses the border of the bundle", self.path)
        path = self.blob_path(ref.blob)
        shape = cast("tuple[int, ...]", spec.shape)
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        if ref.nbytes == 0:
            empty = np.zeros(shape, dtype)
            empty.flags.writeable = False
            return empty
        with open_plain(path) as (file, _):
            return np.memmap(cast("Any", file), dtype, "r", ref.offset, shape)

    def _verified(self, digest: str, verify: Verify) -> Path:
        blob = self.manifest.blob(digest)
        path = _blob_file(self.path, digest)
        with open_plain(path) as (file, info):
            _check_size(path, info, blob)
            if verify != "never":
                _check_content(path, file, info, digest, again=verify == "always")
        return path


def _check_root(root: Path) -> None:
    try:
        # A link to a bundle is fine, and is how deployments switch between two.
        found = root.is_dir()
    except (OSError, ValueError):
        found = False
    if not found:
        raise BundleError(
            "not a bundle: no such directory" if not os.path.lexists(root) else "not a directory",
            where=str(root),
            advice="give the directory that `partition build -o` made",
        )
    if not os.path.lexists(root / LAYOUT_FILE):
        raise BundleError(
            f"not a bundle: the directory has no {LAYOUT_FILE}",
            where=str(root),
            advice="give the directory that `partition build -o` made",
        )
    for name in (Path(BLOBS).parent, BLOBS):
        check_directory(root / name)


def _blob_file(root: Path, digest: str) -> Path:
    return root / BLOBS / hex_of(digest)


def _check_size(path: Path, info: os.stat_result, blob: Blob) -> None:
    if info.st_size != blob.size:
        raise damaged(f"the blob has {info.st_size} bytes, declared are {blob.size}", path)


def _read_blob(root: Path, blob: Blob, limit: int) -> bytes:
    path = _blob_file(root, blob.digest)
    if blob.size > limit:
        raise damaged(f"the blob is said to have {blob.size} bytes; {limit} are read", path)
    data = read_plain(path, blob.size)
    if len(data) != blob.size:
        raise damaged(f"the blob has {len(data)} bytes, declared are {blob.size}", path)
    _check_digest(path, digest_bytes(data), blob.digest)
    return data


def _check_content(
    path: Path, file: FileIO, info: os.stat_result, digest: str, *, again: bool
) -> None:
    key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, digest)
    with _lock:
        if not again and key in _hashed:
            return
    _check_digest(path, digest_stream(file), digest)
    with _lock:
        _hashed.add(key)


def _check_digest(path: Path, actual: str, declared: str) -> None:
    if actual != declared:
        raise damaged(f"the blob has the digest {actual}: its content was changed", path)
