"""Bundles on disk: an OCI image layout, read with distrust.

``writer.py`` writes them, ``index.py`` opens those of several members. The format is described in
``docs/bundle-format.md``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from io import FileIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.digest import digest_bytes, digest_stream, hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import open_plain, read_plain
from partitioner.artifacts.hashed import hashing, is_hashed, remember
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob, ConstantRef, Manifest
from partitioner.artifacts.oci import BLOBS, Member, read_image
from partitioner.artifacts.stamps import is_stamped, leave_stamp
from partitioner.artifacts.validate import check_ref
from partitioner.specs import TensorSpec

__all__ = ["MAX_INDEX_BYTES", "Arrive", "Bundle", "Trust", "Verify", "read_blob"]

Verify = Literal["always", "once", "never"]

#: Called with a blob before its file is looked at; returns when the file is there.
Arrive = Callable[[Blob], None]

#: Called with the digest and the content of the root (see ``oci.py``) before it is parsed; raises
#: if the bundle is not to be trusted.
Trust = Callable[[str, bytes], None]

#: ``index.json`` and ``oci-layout`` are small; larger ones are refused unread.
MAX_INDEX_BYTES = 2**20


class Bundle:
    """A member of a bundle, opened; its manifest is read and checked. Thread-safe.

    Most bundles have one member, which then is all of it.

    Attributes:
        path: the directory.
        digest: of the root; it covers all else, so it is the bundle's identity.
        image, config: descriptors of the OCI manifest and of the manifest.
        labels: tell it from other members; ``target`` at least.
        manifest: what it holds.
        verify: when the content of blobs is hashed; see :meth:`open`.
        trusted: whether somebody has vouched for its root: a signature was verified.
    """

    def __init__(
        self,
        path: Path,
        root: Blob,
        member: Member,
        config: Blob,
        manifest: Manifest,
        verify: Verify,
        arrive: Arrive | None = None,
        *,
        trusted: bool = False,
    ) -> None:
        self.path = path
        self.digest = root.digest
        self.image = member.image
        self.labels = member.labels or manifest.labels
        self.config = config
        self.manifest = manifest
        self.verify: Verify = verify
        self.trusted = trusted
        self._arrive = arrive

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        verify: Verify = "once",
        *,
        trust: Trust | None = None,
        wanted: Mapping[str, str] | None = None,
    ) -> Bundle:
        """Open a bundle. The manifest is always hashed; blobs are when their path is asked for.

        Args:
            verify: when a blob's content is hashed: each time its path is asked for; once per file
                and boot of the host, as far as the user's cache remembers (``stamps.py``); or
                never (its size is always checked).
            trust: decides, before anything is parsed that it vouches for.
            wanted: labels that choose one of several members.

        Raises:
            BundleError: no bundle, damaged, or hostile.
            IncompatibleBundleError: of a schema version that cannot be read.
            SignatureError: ``trust`` refuses.
            UsageError: no member has these labels, or several have.
        """
        from partitioner.artifacts.index import BundleIndex

        return BundleIndex.open(path, verify, trust=trust).only(wanted)

    @classmethod
    def of_member(
        cls,
        path: Path,
        root: Blob,
        member: Member,
        verify: Verify = "once",
        arrive: Arrive | None = None,
        *,
        trusted: bool = False,
    ) -> Bundle:
        """Open one member of a bundle, in a directory with the blobs of any number of bundles.

        Args:
            arrive: fetches a blob's file, where files are fetched when they are needed.
            trusted: whether a signature of the root was verified, which names all members.

        Raises:
            as :meth:`open`; and what ``arrive`` raises.
        """
        config, layers = read_image(read_blob(path, member.image, MAX_MANIFEST_BYTES, arrive))
        manifest = Manifest.from_json(read_blob(path, config, MAX_MANIFEST_BYTES, arrive))
        if layers != manifest.blobs:
            raise damaged("the OCI manifest and the bundle's manifest list different blobs", path)
        for name, text in manifest.labels.items():
            if member.labels and member.labels.get(name) != text:
                raise damaged(f"a member is said to be for another {name} than its manifest", path)
        return cls(path, root, member, config, manifest, verify, arrive, trusted=trusted)

    @property
    def closure(self) -> tuple[Blob, ...]:
        """All blobs of the member, its two manifests last: the order in which they are stored."""
        return (*self.manifest.blobs, self.config, self.image)

    @property
    def blobs_dir(self) -> Path:
        """The directory in which a blob's file has its hexadecimal digits as name."""
        return self.path / BLOBS

    def arrive(self, blob: Blob) -> None:
        """Wait for a blob's file, where files are fetched when they are needed."""
        if self._arrive is not None:
            self._arrive(blob)

    def blob_path(self, digest: str, verify: Verify | None = None) -> Path:
        """The path of a blob whose content is as declared.

        Args:
            verify: when it is hashed; as the bundle was opened if None.

        Raises:
            BundleError: not declared, missing, not a plain file, of another size or content.
        """
        return self._verified(digest, verify or self.verify)

    def read(self, digest: str) -> bytes:
        """The content of a blob, hashed whatever the mode.

        Raises:
            BundleError: as :meth:`blob_path`.
        """
        blob = self.manifest.blob(digest)
        return read_blob(self.path, blob, blob.size, self._arrive)

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
        self.arrive(blob)
        with open_plain(path) as (file, info):
            _check_size(path, info, blob)
            if verify != "never":
                _check_content(path, file, info, digest, again=verify == "always")
        return path


def _blob_file(root: Path, digest: str) -> Path:
    return root / BLOBS / hex_of(digest)


def _check_size(path: Path, info: os.stat_result, blob: Blob) -> None:
    if info.st_size != blob.size:
        raise damaged(f"the blob has {info.st_size} bytes, declared are {blob.size}", path)


def read_blob(root: Path, blob: Blob, limit: int, arrive: Arrive | None = None) -> bytes:
    """The content of a small blob, hashed.

    Args:
        root: a directory with blobs.
        limit: bytes; more are refused unread.

    Raises:
        BundleError: too large, missing, not a plain file, of another size or content.
    """
    path = _blob_file(root, blob.digest)
    if blob.size > limit:
        raise damaged(f"the blob is said to have {blob.size} bytes; {limit} are read", path)
    if arrive is not None:
        arrive(blob)
    data = read_plain(path, blob.size)
    if len(data) != blob.size:
        raise damaged(f"the blob has {len(data)} bytes, declared are {blob.size}", path)
    _check_digest(path, digest_bytes(data), blob.digest)
    return data


def _check_content(
    path: Path, file: FileIO, info: os.stat_result, digest: str, *, again: bool
) -> None:
    # Segments that are loaded side by side often share their weights.
    with nullcontext() if again else hashing(digest):
        if not again and (is_hashed(info, digest) or is_stamped(info, digest)):
            remember(info, digest)
            return
        # In this order: what is written after the second line has a later time than it sees.
        looked = time.time_ns()
        before = os.fstat(file.fileno())
        _check_digest(path, digest_stream(file), digest)
        remember(info, digest)
        leave_stamp(before, digest, looked)


def _check_digest(path: Path, actual: str, declared: str) -> None:
    if actual != declared:
        raise damaged(f"the blob has the digest {actual}: its content was changed", path)
