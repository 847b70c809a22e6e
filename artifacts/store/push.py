"""Bundle to store.

1. Tag and version are looked up: a version that is taken by other content ends the push at once.
2. The push is announced (``writers/<id>.json``) with the digests it relies on.
3. Blobs that are missing are sent, manifests after them, the root last.
4. If a collection was running when the push was announced, it may not have seen it; so its end is
   waited for, and what it has removed is sent again. One that begins later reads the announcement.
5. The version is created. That is the commit: before it no reader sees anything.
6. The tag is moved, if it still is what it was at the beginning.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.oci import CONFIG_TYPE, IMAGE_TYPE, INDEX_TYPE
from partitioner.artifacts.signatures import merge_signatures, read_signatures
from partitioner.artifacts.store.base import Document, Progress, Store
from partitioner.artifacts.store.layout import (
    MAX_DOCUMENT,
    Pointer,
    blob_key,
    channel_key,
    check_name,
    signatures_key,
    version_key,
    write_digests,
    writer_key,
)
from partitioner.artifacts.store.lease import is_collecting
from partitioner.errors import ConflictError, StoreError

__all__ = ["Pushed", "push"]

#: Larger blobs are sent one after another, each in parts in parallel.
_LARGE = 8 * 2**20

#: Seconds between two looks at a collection that runs.
_POLL = 1.0

_TRIES = 5


@dataclass(frozen=True)
class Pushed:
    """What a push has done.

    Args:
        version: under which the bundle can be had from now on.
        tag: that points to it now, if one was asked for.
        digest: of the bundle.
        sent, sent_bytes: blobs that were missing.
        skipped, skipped_bytes: blobs that were there.
    """

    name: str
    version: str
    tag: str | None
    digest: str
    sent: int
    sent_bytes: int
    skipped: int
    skipped_bytes: int


def push(
    path: Path,
    store: Store,
    *,
    name: str | None = None,
    version: str | None = None,
    tag: str | None = None,
    threads: int = 4,
    progress: Progress = lambda count: None,
) -> Pushed:
    """Copy a bundle to a store. Only what is missing travels; a next run continues a killed one.

    Args:
        name, version: in the store; those of the first manifest by default. A bundle that was
            built without a version label gets the beginning of its digest.
        tag: to move to it.
        progress: of all bytes of the bundle, skipped ones included.

    Raises:
        BundleError: the bundle is damaged; nothing of it is visible then.
        ConflictError: the version is another bundle's; or somebody else has moved the tag
            meanwhile (the version is there then).
        StoreError: the store cannot be reached or refuses.
        UsageError: a name that cannot be one; members were left out of the bundle's copy.
    """
    bundle = BundleIndex.open(path, "never")
    closure = bundle.closure()
    own = bundle.bundle(bundle.members[0]).manifest
    name = check_name(own.name if name is None else name, "the name of a bundle")
    label = _version_of(bundle, own.version) if version is None else version
    version = check_name(label, "a version")
    total = sum(blob.size for blob in closure)
    pointer = Pointer(name, version, bundle.digest, bundle.root.size, total)
    before = store.get(channel_key(name, tag), MAX_DOCUMENT) if tag is not None else None
    _refuse_taken(store, pointer, missing_is_fine=True)
    with _announced(store, [blob.digest for blob in closure]):
        collecting = is_collecting(store)
        sent = _send(store, bundle, threads, progress)
        while collecting:
            time.sleep(_POLL)
            collecting = is_collecting(store)
            sent |= _send(store, bundle, threads, lambda count: None) if not collecting else set()
        _send_signatures(store, bundle)
        if not store.put_if_absent(version_key(name, version), pointer.to_json()):
            _refuse_taken(store, pointer)
        if tag is not None:
            _move_tag(store, pointer, tag, before)
    new = [blob for blob in closure if blob in sent]
    size = sum(blob.size for blob in new)
    old = len(closure) - len(new)
    return Pushed(name, version, tag, bundle.digest, len(new), size, old, total - size)


def _version_of(bundle: BundleIndex, label: str) -> str:
    # "0" is the label of a build that was given none.
    return label if label != "0" else hex_of(bundle.digest)[:12]


def _refuse_taken(store: Store, pointer: Pointer, *, missing_is_fine: bool = False) -> None:
    key = version_key(pointer.name, pointer.version)
    found = store.get(key, MAX_DOCUMENT)
    where = f"{store.uri}/{pointer.name}@{pointer.version}"
    if found is None:
        if missing_is_fine:
            return
        raise ConflictError("the version was removed while it was pushed", where=where)
    other = Pointer.from_json(found.data, where)
    if other.digest != pointer.digest:
        raise ConflictError(
            f"the version {pointer.version} is there, with the digest {other.digest}",
            where=where,
            advice="versions do not change: push with another --version (and move a --tag to it)",
        )


@contextmanager
def _announced(store: Store, digests: list[str]) -> Generator[None]:
    key = writer_key(uuid.uuid4().hex)
    if not store.put_if_absent(key, write_digests(digests)):
        raise StoreError("the store has an object under a name that was just made up", where=key)
    try:
        yield
    finally:
        store.delete(key)


def _send(store: Store, bundle: BundleIndex, threads: int, progress: Progress) -> set[Blob]:
    """Send what is missing. Returns what was sent by this call."""
    blobs, documents = _parted(bundle)
    with ThreadPoolExecutor(threads, "push") as pool:
        try:
            found = list(pool.map(lambda blob: _has(store, blob, progress), blobs))
            missing = [blob for blob, there in zip(blobs, found, strict=True) if not there]
            small = [blob for blob in missing if blob.size <= _LARGE]
            sent = list(pool.map(lambda blob: _upload(store, bundle, blob, progress), small))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    large = [blob for blob in missing if blob.size > _LARGE]
    sent += [_upload(store, bundle, blob, progress) for blob in large]
    for blob in documents:
        if not _has(store, blob, progress):
            sent.append(_upload(store, bundle, blob, progress))
    return {blob for blob in sent if blob is not None}


def _parted(bundle: BundleIndex) -> tuple[list[Blob], list[Blob]]:
    """What can be sent at once, and what goes after it in order: manifests."""
    kinds = (CONFIG_TYPE, IMAGE_TYPE, INDEX_TYPE)
    every = bundle.closure()
    blobs = [blob for blob in every if blob.media_type not in kinds]
    return blobs, [blob for blob in every if blob.media_type in kinds]


def _has(store: Store, blob: Blob, progress: Progress) -> bool:
    key = blob_key(blob.digest)
    entry = store.head(key)
    if entry is None:
        return False
    if entry.size != blob.size:
        raise StoreError(
            f"the store has {entry.size} bytes under a blob's digest; it has {blob.size}",
            where=f"{store.uri}/{key}",
            advice="somebody else wrote to the store; remove that object and push again",
        )
    progress(blob.size)
    return True


def _upload(store: Store, bundle: BundleIndex, blob: Blob, progress: Progress) -> Blob | None:
    path = bundle.blobs_dir / hex_of(blob.digest)
    done = store.upload_if_absent(path, blob, blob_key(blob.digest), progress)
    return blob if done else None


def _send_signatures(store: Store, bundle: BundleIndex) -> None:
    """Add the bundle's signatures to those that the store has for it."""
    own = read_signatures(bundle.path)
    if not own:
        return
    key = signatures_key(bundle.digest)
    for _ in range(_TRIES):
        found = store.get(key, MAX_DOCUMENT)
        merged = merge_signatures(own, None if found is None else found.data)
        if found is None:
            done = store.put_if_absent(key, merged)
        else:
            done = found.data == merged or store.put_if_match(key, merged, found.etag)
        if done:
            return
    raise ConflictError("others keep changing the signatures", where=f"{store.uri}/{key}")


def _move_tag(store: Store, pointer: Pointer, tag: str, before: Document | None) -> None:
    key, data = channel_key(pointer.name, tag), pointer.to_json()
    if before is None:
        done = store.put_if_absent(key, data)
    else:
        done = before.data == data or store.put_if_match(key, data, before.etag)
    if done:
        return
    raise ConflictError(
        f"somebody else has moved the tag {tag} meanwhile",
        where=f"{store.uri}/{pointer.name}@{tag}",
        advice=f"the bundle is there as {pointer.name}@{pointer.version}; "
        "look at the tag, and push again to move it",
    )
