"""Bundles on disk: an OCI image layout, written at once and read with distrust."""

from __future__ import annotations

import os
import stat
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.codec import loads
from partitioner.artifacts.digest import check_digest, digest_file, hex_of
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob, ConstantRef, Manifest
from partitioner.errors import BundleError
from partitioner.specs import TensorSpec

__all__ = ["ARTIFACT_TYPE", "CONFIG_TYPE", "LAYOUT", "Bundle", "Verify"]

ARTIFACT_TYPE = "application/vnd.partitioner.bundle.v1+json"
CONFIG_TYPE = "application/vnd.partitioner.manifest.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYOUT = {"imageLayoutVersion": "1.0.0"}

Verify = Literal["always", "once", "never"]

#: Index and OCI manifest are small; larger ones are refused unread.
_MAX_INDEX_BYTES = 2**20

#: (device, inode, size, mtime in ns, digest) of files hashed by this process.
_hashed: set[tuple[int, int, int, int, str]] = set()
_lock = threading.Lock()


class Bundle:
    """A bundle that was opened; its manifest is read and checked.

    Attributes:
        path: the directory.
        digest: of the OCI manifest; it covers all else, so it is the bundle's identity.
        manifest: what it holds.
    """

    def __init__(self, path: Path, digest: str, manifest: Manifest, verify: Verify) -> None:
        self.path = path
        self.digest = digest
        self.manifest = manifest
        self.verify: Verify = verify

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: Verify = "once") -> Bundle:
        """Open a bundle.

        Args:
            verify: when a blob's content is hashed: each time its path is asked for, once per file
                in this process, or never (its size is always checked).

        Raises:
            BundleError: no bundle, damaged, or hostile.
            IncompatibleBundleError: of a schema version that cannot be read.
        """
        root = Path(path)
        if not root.is_dir():
            raise BundleError(
                f"{root} is not a bundle: no such directory",
                advice="give the directory that `partition build -o` made",
            )
        layout = loads(_read_small(root / "oci-layout", _MAX_INDEX_BYTES), "oci-layout")
        if layout != LAYOUT:
            raise _damaged("not an OCI image layout of version 1.0.0", root / "oci-layout")
        index = loads(_read_small(root / "index.json", _MAX_INDEX_BYTES), "index.json")
        descriptor = _bundle_descriptor(index, root / "index.json")
        oci = loads(_read_blob(root, descriptor, MAX_MANIFEST_BYTES), "the OCI manifest")
        config = _descriptor(_key(oci, "config"), "the OCI manifest")
        manifest = Manifest.from_json(_read_blob(root, config, MAX_MANIFEST_BYTES))
        _check_layers(oci, manifest)
        return cls(root, descriptor.digest, manifest, verify)

    @cached_property
    def _declared(self) -> dict[str, Blob]:
        return {blob.digest: blob for blob in self.manifest.blobs}

    @property
    def blobs_dir(self) -> Path:
        """The directory in which a blob's file has its hexadecimal digits as name."""
        return self.path / "blobs" / "sha256"

    def blob_path(self, digest: str) -> Path:
        """The path of a blob whose content is as declared.

        Raises:
            BundleError: not declared, missing, not a plain file, of another size or content.
        """
        blob = self._declared.get(check_digest(digest))
        if blob is None:
            raise _damaged(f"the blob {digest} is not declared in the manifest", self.path)
        path = _blob_file(self.path, digest)
        info = _plain_file(path)
        if info.st_size != blob.size:
            raise _damaged(f"blob has {info.st_size} bytes, declared are {blob.size}", path)
        if self.verify != "never":
            _check_content(path, info, digest, always=self.verify == "always")
        return path

    def check(self) -> None:
        """Hash every blob, whatever the mode.

        Raises:
            BundleError: at the first that is not as declared.
        """
        for blob in self.manifest.blobs:
            path = _blob_file(self.path, blob.digest)
            info = _plain_file(path)
            if info.st_size != blob.size:
                raise _damaged(f"blob has {info.st_size} bytes, declared are {blob.size}", path)
            _check_content(path, info, blob.digest, always=True)

    def constant(self, ref: ConstantRef, spec: TensorSpec) -> npt.NDArray[Any]:
        """A tensor in a blob, as a read-only memory-mapped array."""
        shape = tuple(cast("tuple[int, ...]", spec.shape))
        if spec.dtype == "bfloat16":
            raise _damaged("a bfloat16 tensor crosses the border of the bundle", self.path)
        path = self.blob_path(ref.blob)
        if ref.nbytes == 0:
            return np.zeros(shape, spec.dtype)
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        return np.memmap(path, dtype=dtype, mode="r", offset=ref.offset, shape=shape)


# --- files --------------------------------------------------------------------------------------


def _damaged(what: str, where: Path) -> BundleError:
    return BundleError(
        what, where=str(where), advice="the bundle is damaged or was changed; fetch or build it anew"
    )


def _blob_file(root: Path, digest: str) -> Path:
    return root / "blobs" / "sha256" / hex_of(digest)


def _plain_file(path: Path) -> os.stat_result:
    """The status of a file that is no link, device or pipe; those are refused, not opened."""
    try:
        info = path.lstat()
    except OSError as error:
        raise _damaged(f"a file of the bundle cannot be read: {error.strerror}", path) from error
    if not stat.S_ISREG(info.st_mode):
        raise _damaged("a file of the bundle is not a plain file", path)
    return info


def _read_small(path: Path, limit: int) -> bytes:
    info = _plain_file(path)
    if info.st_size > limit:
        raise _damaged(f"{path.name} has {info.st_size} bytes; at most {limit} are read", path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise _damaged(f"a file of the bundle cannot be read: {error.strerror}", path) from error


def _check_content(path: Path, info: os.stat_result, digest: str, *, always: bool) -> None:
    key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, digest)
    with _lock:
        if not always and key in _hashed:
            return
    try:
        actual = digest_file(path)
    except OSError as error:
        raise _damaged(f"a file of the bundle cannot be read: {error.strerror}", path) from error
    if actual != digest:
        raise _damaged(f"blob has the digest {actual}: its content was changed", path)
    with _lock:
        _hashed.add(key)


# --- OCI ----------------------------------------------------------------------------------------


def _key(document: Any, name: str) -> Any:
    if not isinstance(document, dict) or name not in document:
        raise BundleError(
            f"an OCI document of the bundle has no {name!r}",
            advice="the bundle is damaged or was not made by partitioner",
        )
    return cast("dict[str, Any]", document)[name]


def _descriptor(value: Any, what: str) -> Blob:
    digest, size = _key(value, "digest"), _key(value, "size")
    media_type = _key(value, "mediaType")
    if type(size) is not int or size < 0 or not isinstance(media_type, str):
        raise BundleError(f"{what} has a malformed descriptor")
    return Blob(check_digest(digest), size, media_type)


def _bundle_descriptor(index: Any, path: Path) -> Blob:
    entries = _key(index, "manifests")
    if not isinstance(entries, list) or len(cast("list[Any]", entries)) != 1:
        raise _damaged("index.json does not list exactly one bundle", path)
    return _descriptor(cast("list[Any]", entries)[0], "index.json")


def _read_blob(root: Path, blob: Blob, limit: int) -> bytes:
    path = _blob_file(root, blob.digest)
    if blob.size > limit:
        raise _damaged(f"blob is said to have {blob.size} bytes; at most {limit} are read", path)
    data = _read_small(path, blob.size)
    if len(data) != blob.size:
        raise _damaged(f"blob has not the {blob.size} bytes declared", path)
    _check_content(path, _plain_file(path), blob.digest, always=True)
    return data


def _check_layers(oci: Any, manifest: Manifest) -> None:
    layers = _key(oci, "layers")
    listed = [_descriptor(layer, "the OCI manifest") for layer in cast("list[Any]", layers)]
    if listed != list(manifest.blobs):
        raise BundleError(
            "the OCI manifest and the bundle's manifest list different blobs",
            advice="the bundle is damaged or was changed; fetch or build it anew",
        )
