"""Servers that are busy, reset connections, lose answers, or give too little or too much."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store import fetch as fetch_module
from partitioner.artifacts.store import s3_upload
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.fetch import fetch
from partitioner.artifacts.store.gc import collect
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.options import StoreOptions
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.errors import BundleError, NotInStoreError, PartitionerError, StoreError
from tests.artifacts.store.conftest import keys_of
from tests.artifacts.store.proxy import Fault, faulty
from tests.artifacts.store.servers import free_port

MIB = 2**20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without the waiting."""
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01
    )
    monkeypatch.setattr("partitioner.artifacts.store.retry._BASE", 0.001)


@contextmanager
def through(endpoint: str, uri: str, fault: Fault) -> Iterator[tuple[Store, list[str]]]:
    with faulty(endpoint, fault) as (address, happened):
        yield open_store(uri, StoreOptions(endpoint=address)), happened


@pytest.mark.parametrize("what", ["busy", "reset", "lost", "short"])
def test_push_and_pull_in_spite_of(
    what: str, s3_endpoint: str, s3_uri: str, bundle: Path, tmp_path: Path
) -> None:
    with through(s3_endpoint, s3_uri, lambda m, p, n: what if n % 3 == 0 else None) as (
        store,
        all_,
    ):
        push(bundle, store, tag="t")
        reference = parse_reference(f"{s3_uri}/sample@t")
        pulled = pull(store, reference, tmp_path / "out", cache=Cache())
    Bundle.open(pulled.path).check()
    assert len(all_) > 5
    assert [] == keys_of(open_store(s3_uri), "writers/")


def test_a_store_that_stays_busy(s3_endpoint: str, s3_uri: str, bundle: Path) -> None:
    busy = through(s3_endpoint, s3_uri, lambda m, p, n: "busy")
    with busy as (store, _), pytest.raises(StoreError, match="refuses"):
        push(bundle, store)
    nobody = StoreOptions(endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="cannot be reached"):
        push(bundle, open_store(s3_uri, nobody))


def test_a_clock_that_is_wrong(s3_endpoint: str, s3_uri: str, bundle: Path) -> None:
    # Of the answer to HEAD, which has no body, the time tells.
    for method in ("GET", "HEAD", "PUT"):
        skewed = through(s3_endpoint, s3_uri, lambda m, p, n, at=method: "skewed" * (m == at))
        with skewed as (store, _), pytest.raises(StoreError, match="clock, which is 86") as caught:
            push(bundle, store, tag="t")
        assert "behind the store's" in caught.value.what
        assert "set the clock" in (caught.value.advice or "")
    assert [] == keys_of(open_store(s3_uri), "refs/")
    push(bundle, open_store(s3_uri), tag="t")


def test_lists_that_are_stale(s3_endpoint: str, s3_uri: str, bundle: Path, tmp_path: Path) -> None:
    with through(s3_endpoint, s3_uri, lambda m, p, n: "stale") as (store, _):
        keys_of(store)  # From now on every list is as empty as this.
        push(bundle, store, tag="t")
        reference = parse_reference(f"{s3_uri}/sample@t")
        pulled = pull(store, reference, tmp_path / "out", cache=Cache())
        time.sleep(1.1)
        with pytest.raises(StoreError, match="does not list") as caught:
            collect(store, grace=0)
    assert "nothing was removed" in (caught.value.advice or "")
    Bundle.open(pulled.path).check()
    real = open_store(s3_uri)
    before = keys_of(real)
    assert [] == [key for key in before if key.startswith(("gc/", "writers/"))]
    assert [] == collect(real, grace=0).removed
    assert before == keys_of(real)


def large(path: Path, size: int) -> Blob:
    data = os.urandom(size)
    path.write_bytes(data)
    return Blob(digest_bytes(data), size, "text/plain")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the least size that S3 takes, and ranges of a size that makes several."""
    monkeypatch.setattr(s3_upload, "PART", 5 * MIB)
    monkeypatch.setattr(fetch_module, "_RANGE", 3 * MIB)
    monkeypatch.setattr(fetch_module, "_NOTE", MIB)


def test_an_upload_goes_on_where_it_stopped(
    s3_endpoint: str, s3_uri: str, tmp_path: Path, small_parts: None
) -> None:
    blob = large(tmp_path / "blob", 21 * MIB)
    key = blob_key(blob.digest)
    sent: list[str] = []

    def third_part_fails(method: str, path: str, count: int) -> str | None:
        if "partNumber=" in path:
            sent.append(path)
        return "busy" if "partNumber=3" in path else None

    failing = through(s3_endpoint, s3_uri, third_part_fails)
    with failing as (store, _), pytest.raises(StoreError):
        store.upload_if_absent(tmp_path / "blob", blob, key, lambda count: None)
    assert open_store(s3_uri).head(key) is None
    sent.clear()

    def count(method: str, path: str, number: int) -> None:
        if "partNumber=" in path:
            sent.append(path)

    with through(s3_endpoint, s3_uri, count) as (store, _):
        assert store.upload_if_absent(tmp_path / "blob", blob, key, lambda count: None)
    numbers = sorted(path.partition("partNumber=")[2][0] for path in sent)
    assert "1" not in numbers
    assert "3" in numbers
    fetch(open_store(s3_uri), blob, tmp_path / "back", 4, lambda count: None)
    assert (tmp_path / "blob").read_bytes() == (tmp_path / "back").read_bytes()


def test_a_large_blob_that_was_changed_is_not_stored(
    s3_uri: str, tmp_path: Path, small_parts: None
) -> None:
    blob = large(tmp_path / "blob", 6 * MIB)
    with (tmp_path / "blob").open("r+b") as file:
        file.write(b"changed!")
    store = open_store(s3_uri)
    with pytest.raises(BundleError, match="changed"):
        store.upload_if_absent(tmp_path / "blob", blob, blob_key(blob.digest), lambda count: None)
    assert [] == keys_of(store)
    assert 1 == store.abandon(-5)


def test_two_uploads_of_one_blob(s3_uri: str, tmp_path: Path, small_parts: None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    blob = large(tmp_path / "blob", 11 * MIB)

    def send(_: int) -> bool:
        key = blob_key(blob.digest)
        return open_store(s3_uri).upload_if_absent(tmp_path / "blob", blob, key, lambda count: None)

    with ThreadPoolExecutor(2) as pool:
        # moto may tell both that they were first; S3 does not.
        assert any(pool.map(send, range(2)))
    fetch(open_store(s3_uri), blob, tmp_path / "back", 4, lambda count: None)
    assert 0 == open_store(s3_uri).abandon(-5)


class Breaking:
    """A store whose connections break after some bytes, at the given reads."""

    def __init__(self, store: Store, breaks: int) -> None:
        self.uri = store.uri
        self.store = store
        self.breaks = breaks
        self.read_bytes = 0

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        self.breaks -= 1
        for index, piece in enumerate(self.store.read(key, start, stop)):
            if self.breaks >= 0 and index == 1:
                raise fetch_module.InterruptedReadError("broken")
            self.read_bytes += len(piece)
            yield piece


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Any, Blob]:
    """A store in a directory with a blob of 13 MiB."""
    store = open_store((tmp_path / "store").as_uri())
    blob = large(tmp_path / "blob", 13 * MIB)
    store.upload_if_absent(tmp_path / "blob", blob, blob_key(blob.digest), lambda count: None)
    return store, blob


def test_a_fetch_goes_on_where_a_connection_broke(
    stored: tuple[Any, Blob], tmp_path: Path, small_parts: None
) -> None:
    store, blob = stored
    breaking: Any = Breaking(store, 5)
    came: list[int] = []
    fetch(breaking, blob, tmp_path / "back", 4, came.append)
    assert blob.size == breaking.read_bytes == sum(came)
    assert (tmp_path / "blob").read_bytes() == (tmp_path / "back").read_bytes()


def test_a_fetch_goes_on_where_a_process_stopped(
    stored: tuple[Any, Blob], tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, blob = stored
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 1)
    with pytest.raises(StoreError, match="keeps breaking"):
        fetch(Breaking(store, 99), blob, tmp_path / "back", 4, lambda count: None)  # type: ignore[arg-type]
    again: Any = Breaking(store, 0)
    fetch(again, blob, tmp_path / "back", 4, lambda count: None)
    assert again.read_bytes < blob.size
    assert (tmp_path / "blob").read_bytes() == (tmp_path / "back").read_bytes()


@pytest.mark.parametrize("notes", [None, b"{", b'{"ranges":[[0,5,9]]}', b'{"ranges":[[0,-1,5]]}'])
def test_notes_that_do_not_fit_are_not_followed(
    stored: tuple[Any, Blob], tmp_path: Path, small_parts: None, notes: bytes | None
) -> None:
    store, blob = stored
    (tmp_path / "back").write_bytes(b"something else")
    if notes is not None:
        (tmp_path / "back.json").write_bytes(notes)
    fetch(store, blob, tmp_path / "back", 4, lambda count: None)
    assert (tmp_path / "blob").read_bytes() == (tmp_path / "back").read_bytes()


def test_a_damaged_rest_is_fetched_anew(
    stored: tuple[Any, Blob], tmp_path: Path, small_parts: None
) -> None:
    store, blob = stored
    (tmp_path / "back").write_bytes(bytes(blob.size))
    text = b'{"ranges":[[0,%d,%d]]}' % (blob.size - 1, blob.size)
    (tmp_path / "back.json").write_bytes(text)
    fetch(store, blob, tmp_path / "back", 4, lambda count: None)
    assert (tmp_path / "blob").read_bytes() == (tmp_path / "back").read_bytes()


@pytest.mark.parametrize("size", [0, 12 * MIB, 14 * MIB])
def test_a_size_that_is_not_the_blobs(
    stored: tuple[Any, Blob], tmp_path: Path, small_parts: None, size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store, blob = stored
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 1)
    wrong = Blob(blob.digest, size, "text/plain")
    with pytest.raises(PartitionerError) as caught:
        fetch(store, wrong, tmp_path / "back", 4, lambda count: None)
    assert isinstance(caught.value, BundleError | StoreError)


def test_a_blob_that_is_missing(stored: tuple[Any, Blob], tmp_path: Path) -> None:
    store, _ = stored
    with pytest.raises(NotInStoreError):
        fetch(store, Blob("sha256:" + "0" * 64, 3, ""), tmp_path / "x", 4, lambda count: None)
