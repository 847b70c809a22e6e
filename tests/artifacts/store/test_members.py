"""Bundles of several members in stores: pushed, pulled as a whole or in part, kept, shared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.closure import stored_closure
from partitioner.artifacts.store.gc import collect
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import Reference, open_store, parse_reference
from partitioner.artifacts.store.options import DEFAULT_OPTIONS
from partitioner.artifacts.store.presigned import open_presigned, presign
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.refs import list_refs, resolve
from partitioner.artifacts.store.remote import needed_to_run, opened_remote
from partitioner.errors import BundleError, StoreError, UsageError
from tests.artifacts.samples import several, write_bundle, write_several
from tests.artifacts.store.conftest import keys_of
from tests.artifacts.store.test_push_pull import tree


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_several(tmp_path / "several.bundle")
    return tmp_path / "several.bundle"


@pytest.fixture
def local(tmp_path: Path, bundle: Path) -> tuple[Store, Reference]:
    """A store in a directory that has the bundle, and its reference."""
    uri = (tmp_path / "store").as_uri()
    push(bundle, open_store(uri), tag="t")
    return open_store(uri), parse_reference(f"{uri}/sample@t")


def test_round_trip(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    done = push(bundle, store, tag="t")
    index = BundleIndex.open(bundle)
    # Four blobs that all share, two manifests for each of three members, the index.
    assert (index.digest, 11, 0) == (done.digest, done.sent, done.skipped)
    assert {index.digest} == {row.pointer.digest for row in list_refs(store)}
    pulled = pull(store, parse_reference(f"{uri}/sample@t"), tmp_path / "out", cache=Cache())
    assert index.digest == pulled.digest
    assert tree(bundle) == tree(pulled.path)
    again = push(bundle, store)
    assert (0, 11) == (again.sent, again.skipped)


def test_the_root_is_what_travels_last(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store((tmp_path / "store").as_uri())
    order: list[str] = []
    real = type(store).upload_if_absent

    def recorded(self: Store, path: Path, *rest: object) -> bool:
        order.append(path.name)
        return real(self, path, *rest)  # pyright: ignore[reportArgumentType] passed on as they are

    monkeypatch.setattr(type(store), "upload_if_absent", recorded)
    push(bundle, store)
    index = BundleIndex.open(bundle)
    images = [hex_of(member.image.digest) for member in index.members]
    assert hex_of(index.digest) == order[-1]
    documents = {hex_of(index.bundle(m).config.digest) for m in index.members} | set(images)
    assert documents == set(order[-7:-1])


def test_one_member_is_pulled(local: tuple[Store, Reference], bundle: Path, tmp_path: Path) -> None:
    pulled = pull(*local, tmp_path / "out", cache=Cache(), wanted={"target": "xeon"})
    whole, part = BundleIndex.open(bundle), BundleIndex.open(pulled.path)
    assert whole.digest == part.digest == pulled.digest
    assert whole.members[:1] == part.here
    part.check()
    assert "xeon" == part.only().manifest.target
    # What the others have for themselves was not fetched.
    files = {path.name for path in (pulled.path / "blobs" / "sha256").iterdir()}
    assert files == {hex_of(blob.digest) for blob in part.closure(part.here)}
    assert len(files) < len(whole.closure())
    with pytest.raises(UsageError, match="left out of this copy"):
        push(pulled.path, local[0])


def test_a_member_that_is_not_there(local: tuple[Store, Reference], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no member target=tpu"):
        pull(*local, tmp_path / "out", cache=Cache(), wanted={"target": "tpu"})
    assert not (tmp_path / "out").exists()


def test_only_the_chosen_members_documents_are_fetched(
    local: tuple[Store, Reference], bundle: Path
) -> None:
    with opened_remote(*local, cache=Cache()) as (index, fetcher):
        chosen = index.only({"batch": "4"})
        fetcher.start(needed_to_run(chosen.manifest))
        for blob in needed_to_run(chosen.manifest):
            index.arrive(blob)
    there = {row.digest for row in Cache().list()}
    others = [m for m in BundleIndex.open(bundle).members if m.labels != chosen.labels]
    assert not there & {member.image.digest for member in others}


def test_a_collection_keeps_all_members(
    local: tuple[Store, Reference], bundle: Path, tmp_path: Path
) -> None:
    store, reference = local
    closure = BundleIndex.open(bundle).closure()
    assert {blob.digest for blob in closure} == set(
        stored_closure(store, resolve(store, reference).digest)
    )
    assert 0 == len(collect(store, grace=-1).removed)
    pull(store, reference, tmp_path / "out", cache=Cache())


def test_what_one_bundle_shares_with_another_stays(
    local: tuple[Store, Reference], tmp_path: Path
) -> None:
    """The lone member of one target is part of the bundle for several."""
    store, reference = local
    write_bundle(tmp_path / "alone", several()[0][0])
    done = push(tmp_path / "alone", store, name="alone", version="1")
    assert (0, 0) == (done.sent, done.sent_bytes)
    store.delete("refs/sample/channels/t.json")
    store.delete("refs/sample/versions/0.json")
    for key in keys_of(store, "refs/sample/"):
        store.delete(key)
    # Two members' documents and the index.
    assert 5 == len(collect(store, grace=-1).removed)
    alone = Reference(reference.store, "alone", "1")
    assert 1 == len(BundleIndex.open(pull(store, alone, tmp_path / "o", cache=Cache()).path).here)


def test_a_missing_members_manifest_stops_a_collection(
    local: tuple[Store, Reference], bundle: Path
) -> None:
    store, _ = local
    store.delete(blob_key(BundleIndex.open(bundle).members[1].image.digest))
    before = keys_of(store)
    with pytest.raises(StoreError, match="something else than a whole bundle"):
        collect(store, grace=-1)
    assert before == keys_of(store)


def test_an_image_manifest_is_not_taken_for_an_index(
    local: tuple[Store, Reference], bundle: Path, tmp_path: Path
) -> None:
    """Whoever can write to a store can point anywhere, but not change what a blob is."""
    store, reference = local
    config = BundleIndex.open(bundle).bundle(BundleIndex.open(bundle).members[0]).config
    document = json.loads(resolve(store, reference).to_json())
    document.update(digest=config.digest, size=config.size)
    key = "refs/sample/channels/t.json"
    store.delete(key)
    store.put_if_absent(key, json.dumps(document).encode())
    with pytest.raises(BundleError, match="mediaType"):
        pull(store, reference, tmp_path / "out", cache=Cache())


def test_presigned(
    s3_uri: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_uri)
    done = push(bundle, store, tag="t")
    path = tmp_path / "a.urls.json"
    path.write_bytes(presign(store, parse_reference(f"{s3_uri}/sample@t"), 600))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    pulled = pull(*open_presigned(path, DEFAULT_OPTIONS), tmp_path / "out", cache=Cache())
    assert done.digest == pulled.digest
    BundleIndex.open(pulled.path).check()
