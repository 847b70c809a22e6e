"""What every store that can be written to does alike, over real S3 requests and on a disk."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.layout import blob_key
from partitioner.errors import BundleError, NotInStoreError, StoreError
from tests.artifacts.store.conftest import keys_of


def upload(store: Store, path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    blob = Blob(digest_bytes(data), len(data), "text/plain")
    return store.upload_if_absent(path, blob, blob_key(blob.digest), lambda count: None)


def test_documents_are_created_once(store: Store) -> None:
    assert store.put_if_absent("refs/a/versions/1.json", b"one")
    assert not store.put_if_absent("refs/a/versions/1.json", b"two")
    found = store.get("refs/a/versions/1.json", 10)
    assert found is not None
    assert b"one" == found.data


def test_creating_the_same_again_is_fine_on_s3(s3_uri: str) -> None:
    # A retry whose first try came through, but not its answer.
    from partitioner.artifacts.store.locations import open_store

    store = open_store(s3_uri)
    assert store.put_if_absent("a", b"one")
    assert store.put_if_absent("a", b"one")


def test_documents_move_by_what_was_read(store: Store) -> None:
    store.put_if_absent("a", b"one")
    found = store.get("a", 10)
    assert found is not None
    assert store.put_if_match("a", b"two", found.etag)
    assert not store.put_if_match("a", b"three", found.etag)
    assert b"two" == (store.get("a", 10) or found).data
    assert not store.put_if_match("absent", b"three", found.etag)


def test_what_is_not_there(store: Store) -> None:
    assert store.head("a") is None
    assert store.get("a", 10) is None
    store.delete("a")
    assert [] == list(store.list("refs/"))
    with pytest.raises(NotInStoreError):
        list(store.read("a", 0, 1))


def test_large_documents_are_refused(store: Store) -> None:
    store.put_if_absent("a", b"12345")
    with pytest.raises(StoreError, match="more than 4 bytes"):
        store.get("a", 4)


def test_blobs(store: Store, tmp_path: Path) -> None:
    assert upload(store, tmp_path / "blob", b"content")
    assert not upload(store, tmp_path / "blob", b"content")
    key = blob_key(digest_bytes(b"content"))
    entry = store.head(key)
    assert entry is not None
    assert 7 == entry.size
    assert abs(time.time() - entry.modified) < 60
    assert b"nte" == b"".join(store.read(key, 2, 5))
    assert [key] == keys_of(store, "blobs/")
    store.delete(key)
    assert [] == keys_of(store)


def test_a_changed_blob_is_not_stored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"altered")
    blob = Blob(digest_bytes(b"content"), 7, "text/plain")
    with pytest.raises(BundleError, match="changed"):
        store.upload_if_absent(path, blob, blob_key(blob.digest), lambda count: None)
    with pytest.raises(BundleError, match="declared"):
        longer = Blob(blob.digest, 8, "text/plain")
        store.upload_if_absent(path, longer, blob_key(blob.digest), lambda count: None)
    assert [] == keys_of(store)


def test_a_link_is_not_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"content")
    (tmp_path / "blob").symlink_to(tmp_path / "target")
    blob = Blob(digest_bytes(b"content"), 7, "text/plain")
    with pytest.raises(BundleError, match="plain"):
        store.upload_if_absent(tmp_path / "blob", blob, "a", lambda count: None)
