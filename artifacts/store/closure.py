"""Which blobs a bundle of a store consists of, as its OCI documents say."""

from __future__ import annotations

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob
from partitioner.artifacts.oci import read_image, read_root
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.layout import blob_key
from partitioner.errors import NotInStoreError

__all__ = ["stored_closure"]


def stored_closure(store: Store, digest: str) -> list[str]:
    """The digests of all blobs of a bundle, each once, the root's first.

    Args:
        digest: of the root.

    Raises:
        NotInStoreError: the root, or a member's manifest, is missing.
        BundleError: one is damaged, or not of a bundle.
        StoreError: the store cannot be reached.
    """
    digests = [digest]
    content = _read(store, digest)
    _, members = read_root(Blob(digest, len(content), ""), content)
    for member in members:
        image = member.image.digest
        config, layers = read_image(content if image == digest else _read(store, image))
        digests += [image, config.digest, *(layer.digest for layer in layers)]
    return list(dict.fromkeys(digests))


def _read(store: Store, digest: str) -> bytes:
    key = blob_key(digest)
    found = store.get(key, MAX_MANIFEST_BYTES)
    if found is None:
        raise NotInStoreError("a manifest is missing", where=f"{store.uri}/{key}")
    if digest_bytes(found.data) != digest:
        raise damaged("the store has other content under the digest", f"{store.uri}/{key}")
    return found.data
