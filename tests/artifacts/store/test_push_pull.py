"""Bundles to stores and back: what travels, what is visible, what is refused."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.layout import Pointer, blob_key, channel_key, version_key
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.refs import list_refs, remove
from partitioner.errors import (
    BundleError,
    ConflictError,
    NotInStoreError,
    OutputError,
    StoreError,
    UsageError,
)
from tests.artifacts.samples import GRAPH, manifest, write_bundle
from tests.artifacts.store.conftest import keys_of


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_round_trip(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    done = push(bundle, store, tag="v3")
    digest = Bundle.open(bundle).digest
    assert ("sample", "1.2", "v3", digest) == (done.name, done.version, done.tag, done.digest)
    assert (6, 0) == (done.sent, done.skipped)
    for ref in ("v3", "1.2", digest):
        reference = parse_reference(f"{uri}/sample@{ref}")
        pulled = pull(store, reference, tmp_path / "out" / ref, cache=Cache())
        assert digest == pulled.digest
        assert tree(bundle) == tree(pulled.path)
        Bundle.open(pulled.path).check()
    assert [] == keys_of(store, "writers/")


def test_only_what_is_missing_travels(store: Store, bundle: Path, tmp_path: Path) -> None:
    first = push(bundle, store)
    again = push(bundle, store, tag="latest")
    assert (0, 0, first.sent) == (again.sent, again.sent_bytes, again.skipped)
    other = tmp_path / "other.bundle"
    write_bundle(other, manifest().replace(version="2"))
    changed = push(other, store)
    # The two manifests.
    assert (2, 4) == (changed.sent, changed.skipped)


def test_versions_do_not_change(store: Store, bundle: Path, tmp_path: Path) -> None:
    push(bundle, store)
    other = tmp_path / "other.bundle"
    write_bundle(other, manifest().replace(target="xeon"))
    before = keys_of(store)
    with pytest.raises(ConflictError, match="is there, with the digest"):
        push(other, store, tag="latest")
    assert before == keys_of(store)
    assert "1.3" == push(other, store, version="1.3").version


def test_a_build_without_label_has_its_digest(store: Store, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", manifest().replace(version="0"))
    done = push(tmp_path / "b", store)
    assert hex_of(done.digest)[:12] == done.version


def test_a_moved_tag_is_not_moved_back(
    store: Store, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.bundle"
    write_bundle(other, manifest().replace(version="2"))
    late = push_meanwhile(store, lambda: push(other, open_store(store.uri), tag="t"), monkeypatch)
    with pytest.raises(ConflictError, match="somebody else has moved the tag t"):
        push(bundle, late, tag="t")
    rows = [(row.kind, row.ref, row.pointer.version) for row in list_refs(store)]
    assert [("tag", "t", "2"), ("version", "1.2", "1.2"), ("version", "2", "2")] == sorted(rows)


def push_meanwhile(store: Store, act: object, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, in which ``act`` is done once before the first blob is sent."""
    upload = store.upload_if_absent
    left = [act]

    def late(*arguments: object) -> bool:
        if left:
            left.pop()()  # type: ignore[operator]
        return upload(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "upload_if_absent", late)
    return store


def test_a_damaged_bundle_is_not_visible(store: Store, bundle: Path) -> None:
    path = bundle / "blobs" / "sha256" / hashlib.sha256(GRAPH).hexdigest()
    path.chmod(0o644)
    path.write_bytes(GRAPH[::-1])
    with pytest.raises(BundleError, match="changed"):
        push(bundle, store, tag="v3")
    assert [] == keys_of(store, "refs/")
    assert [] == keys_of(store, "writers/")


def test_damage_in_the_store_is_found(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, store, tag="v3")
    key = blob_key("sha256:" + hashlib.sha256(GRAPH).hexdigest())
    store.delete(key)
    store.put_if_absent(key, GRAPH[::-1])
    reference = parse_reference(f"{uri}/sample@v3")
    with pytest.raises(BundleError, match="other content"):
        pull(store, reference, tmp_path / "out", cache=Cache())
    store.delete(key)
    store.put_if_absent(key, GRAPH[:-1])
    with pytest.raises(StoreError):
        pull(store, reference, tmp_path / "out", cache=Cache())
    with pytest.raises(StoreError, match="under a blob's digest"):
        push(bundle, store, tag="v3")
    store.delete(key)
    with pytest.raises(NotInStoreError):
        pull(store, reference, tmp_path / "out", cache=Cache())
    assert not (tmp_path / "out").exists()


def test_a_blob_that_is_longer_than_declared_gives_its_declared_bytes(
    store: Store, uri: str, bundle: Path, tmp_path: Path
) -> None:
    push(bundle, store, tag="v3")
    key = blob_key("sha256:" + hashlib.sha256(GRAPH).hexdigest())
    store.delete(key)
    store.put_if_absent(key, GRAPH + b"more")
    pulled = pull(store, parse_reference(f"{uri}/sample@v3"), tmp_path / "out", cache=Cache())
    Bundle.open(pulled.path).check()


def test_a_compressed_object_is_not_inflated(s3_uri: str, tmp_path: Path) -> None:
    store: Any = open_store(s3_uri)
    bomb = gzip.compress(bytes(10 * 2**20))
    where = store.where("refs/sample/channels/t.json")
    store.client.put_object(**where, Body=bomb, ContentEncoding="gzip")
    found = store.get("refs/sample/channels/t.json", len(bomb))
    assert bomb == found.data
    assert bomb == b"".join(store.read("refs/sample/channels/t.json", 0, len(bomb)))
    with pytest.raises(StoreError, match="malformed"):
        pull(store, parse_reference(f"{s3_uri}/sample@t"), tmp_path / "out", cache=Cache())


def test_a_tag_that_points_nowhere(store: Store, uri: str, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    pointer = Pointer("sample", "1", digest, 100, 100)
    store.put_if_absent(channel_key("sample", "v3"), pointer.to_json())
    with pytest.raises(NotInStoreError):
        pull(store, parse_reference(f"{uri}/sample@v3"), tmp_path / "out", cache=Cache())
    with pytest.raises(NotInStoreError, match="no sample@v4"):
        pull(store, parse_reference(f"{uri}/sample@v4"), tmp_path / "out", cache=Cache())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema":2}',
        b'{"digest":"md5:00","name":"a","schema":1,"size":1,"total":1,"version":"1"}',
        b'{"digest":"sha256:../../x","name":"a","schema":1,"size":1,"total":1,"version":"1"}',
        b'{"digest":"sha256:%s","name":"..","schema":1,"size":1,"total":1,"version":"1"}'
        % (b"0" * 64),
        b'{"digest":"sha256:%s","name":"a","schema":1,"size":-1,"total":1,"version":"1"}'
        % (b"0" * 64),
        b'{"digest":"sha256:%s","name":"a","schema":1,"size":%d,"total":1,"version":"1"}'
        % (b"0" * 64, 2**40),
    ],
)
def test_malformed_references(text: bytes) -> None:
    with pytest.raises(StoreError, match="malformed"):
        Pointer.from_json(text, "there")


def test_outputs_are_not_overwritten(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, store, tag="v3")
    reference = parse_reference(f"{uri}/sample@v3")
    with pytest.raises(OutputError, match="exists"):
        pull(store, reference, bundle, cache=Cache())
    pull(store, reference, bundle, cache=Cache(), overwrite=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="not a bundle"):
        pull(store, reference, tmp_path / "mine", cache=Cache(), overwrite=True)


def test_pulled_files_are_plain_and_read_only(
    store: Store, uri: str, bundle: Path, tmp_path: Path
) -> None:
    push(bundle, store, tag="v3")
    pulled = pull(store, parse_reference(f"{uri}/sample@v3"), tmp_path / "out", cache=Cache())
    blobs = list((pulled.path / "blobs/sha256").iterdir())
    assert {0o444} == {path.lstat().st_mode & 0o777 for path in blobs}
    assert not any(path.is_symlink() for path in pulled.path.rglob("*"))


def test_a_link_in_the_cache_is_replaced(
    store: Store, uri: str, bundle: Path, tmp_path: Path
) -> None:
    push(bundle, store, tag="v3")
    cache = Cache()
    target = cache.path("sha256:" + hashlib.sha256(GRAPH).hexdigest())
    (tmp_path / "secret").write_bytes(GRAPH)
    target.symlink_to(tmp_path / "secret")
    pulled = pull(store, parse_reference(f"{uri}/sample@v3"), tmp_path / "out", cache=cache)
    Bundle.open(pulled.path).check()
    assert not target.is_symlink()


def test_remove(store: Store, uri: str, bundle: Path) -> None:
    push(bundle, store, tag="v3")
    with pytest.raises(ConflictError, match="v3 points to"):
        remove(store, parse_reference(f"{uri}/sample@1.2"))
    assert [channel_key("sample", "v3")] == remove(store, parse_reference(f"{uri}/sample@v3"))
    assert [version_key("sample", "1.2")] == remove(store, parse_reference(f"{uri}/sample@1.2"))
    with pytest.raises(NotInStoreError):
        remove(store, parse_reference(f"{uri}/sample@1.2"))
    with pytest.raises(UsageError):
        remove(store, parse_reference(f"{uri}/sample@sha256:{'0' * 64}"))
    assert "1.2" == push(bundle, store).version


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 129, "a\n"])
def test_names_that_cannot_be(store: Store, bundle: Path, name: str) -> None:
    for given in ({"tag": name}, {"version": name}, {"name": name}):
        with pytest.raises(UsageError):
            push(bundle, store, **given)
    assert [] == keys_of(store)
