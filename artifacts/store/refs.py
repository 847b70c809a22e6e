"""Versions and tags of a store: looked up, listed, removed."""

from __future__ import annotations

from dataclasses import dataclass

from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.layout import (
    MAX_DOCUMENT,
    REFS_PREFIX,
    Pointer,
    blob_key,
    channel_key,
    removed_key,
    split_ref_key,
    version_key,
)
from partitioner.artifacts.store.locations import Reference
from partitioner.errors import ConflictError, NotInStoreError, StoreError, UsageError

__all__ = ["Listed", "list_refs", "remove", "resolve"]


@dataclass(frozen=True)
class Listed:
    """A version or a tag.

    Args:
        kind: ``version`` or ``tag``.
        ref: the version or the tag.
        pointer: what it points to.
        modified: in seconds since 1970, by the store's clock.
    """

    kind: str
    ref: str
    pointer: Pointer
    modified: float


def resolve(store: Store, reference: Reference) -> Pointer:
    """What a reference points to. A tag goes before a version of the same name.

    Raises:
        NotInStoreError: nothing.
        StoreError: as the store's methods, or a malformed document.
    """
    if reference.is_digest:
        entry = store.head(blob_key(reference.ref))
        if entry is None:
            raise _nothing(reference)
        return Pointer(reference.name, "digest", reference.ref, entry.size, 0)
    name, ref = reference.name, reference.ref
    for key in (channel_key(name, ref), version_key(name, ref)):
        found = store.get(key, MAX_DOCUMENT)
        if found is not None:
            return Pointer.from_json(found.data, f"{store.uri}/{key}")
    raise _nothing(reference)


def list_refs(store: Store, name: str | None = None) -> list[Listed]:
    """All versions and tags, or those of one name, sorted by name, kind and time."""
    rows: list[Listed] = []
    for entry in store.list(REFS_PREFIX + (f"{name}/" if name else "")):
        parts = split_ref_key(entry.key)
        if parts is None or parts[1] == "removed":
            continue
        found = store.get(entry.key, MAX_DOCUMENT)
        if found is None:
            continue  # Removed between two looks.
        kind = "version" if parts[1] == "versions" else "tag"
        pointer = Pointer.from_json(found.data, f"{store.uri}/{entry.key}")
        rows.append(Listed(kind, parts[2], pointer, entry.modified))
    return sorted(rows, key=lambda row: (row.pointer.name, row.kind, row.modified, row.ref))


def remove(store: Store, reference: Reference) -> list[str]:
    """Remove a tag; or a version, to which no tag may point. Blobs stay until a collection.

    Returns:
        the keys that were removed.

    Raises:
        NotInStoreError: there is no such tag or version.
        ConflictError: a tag points to the version.
        UsageError: a digest is given.
    """
    if reference.is_digest:
        raise UsageError("a digest cannot be removed", advice="remove its versions, then run gc")
    name, ref = reference.name, reference.ref
    tag = channel_key(name, ref)
    if store.head(tag) is not None:
        store.delete(tag)
        return [tag]
    key = version_key(name, ref)
    found = store.get(key, MAX_DOCUMENT)
    if found is None:
        raise _nothing(reference)
    _refuse_tagged(store, reference)
    # Who reads the version just now keeps its blobs for the collection's grace.
    memory = removed_key(name, ref)
    if not store.put_if_absent(memory, found.data):
        old = store.get(memory, MAX_DOCUMENT)
        if old is not None and not store.put_if_match(memory, found.data, old.etag):
            raise ConflictError("somebody else removes the same version", where=str(reference))
    store.delete(key)
    return [key]


def _refuse_tagged(store: Store, reference: Reference) -> None:
    tags = [
        row.ref
        for row in list_refs(store, reference.name)
        if row.kind == "tag" and row.pointer.version == reference.ref
    ]
    if tags:
        raise ConflictError(
            f"the version {reference.ref} is what {', '.join(tags)} points to",
            where=str(reference),
            advice="move or remove the tags first",
        )


def _nothing(reference: Reference) -> StoreError:
    return NotInStoreError(
        f"the store has no {reference.name}@{reference.ref}",
        where=str(reference),
        advice=f"partition ls {reference.store} shows what there is",
    )
