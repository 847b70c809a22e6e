"""The cache: hashed once per file, healed, shared, bounded."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from partitioner.artifacts import hashed
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store import cache as cache_module
from partitioner.artifacts.store.cache import Cache, default_cache_dir
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
from partitioner.errors import StoreError, UsageError

DATA = b"content"
BLOB = Blob(digest_bytes(DATA), len(DATA), "text/plain")


class Counting:
    """A store in a directory that counts reads."""

    def __init__(self, path: Path, *contents: bytes) -> None:
        self.store = open_store(path.as_uri())
        self.uri = self.store.uri
        self.reads = 0
        for data in contents:
            self.store.put_if_absent(blob_key(digest_bytes(data)), data)

    def read(self, key: str, start: int, stop: int) -> object:
        self.reads += 1
        return self.store.read(key, start, stop)


@pytest.fixture
def source(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "store", DATA, b"a" * 10, b"b" * 20)


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the cache hashes, one by one."""
    seen: list[str] = []
    real = cache_module.digest_stream

    def digest_stream(file: object) -> str:
        seen.append(real(file))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(cache_module, "digest_stream", digest_stream)
    return seen


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process."""
    monkeypatch.setattr(hashed, "_hashed", set())


def test_fetched_once(source: Counting) -> None:
    path = Cache().ensure(source, BLOB, "once")  # type: ignore[arg-type]
    assert (DATA, 0o444) == (path.read_bytes(), path.stat().st_mode & 0o777)
    assert path == Cache().ensure(source, BLOB, "once")  # type: ignore[arg-type]
    assert 1 == source.reads


def test_hashed_once_per_file_by_all_processes(
    source: Counting, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache()
    path = cache.ensure(source, BLOB, "once")  # type: ignore[arg-type]
    forget(monkeypatch)
    cache.ensure(source, BLOB, "once")  # type: ignore[arg-type]
    assert [] == digests
    cache.ensure(source, BLOB, "always")  # type: ignore[arg-type]
    assert [BLOB.digest] == digests
    # A file that was touched is another file.
    forget(monkeypatch)
    os.utime(path, (1, 1))
    cache.ensure(source, BLOB, "once")  # type: ignore[arg-type]
    assert [BLOB.digest] * 2 == digests
    cache.ensure(source, BLOB, "once")  # type: ignore[arg-type]
    assert [BLOB.digest] * 2 == digests


@pytest.mark.parametrize("wrong", [b"changed", b"short", b""])
def test_a_changed_file_is_replaced(
    source: Counting, wrong: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache()
    path = cache.ensure(source, BLOB, "once")  # type: ignore[arg-type]
    path.chmod(0o644)
    path.write_bytes(wrong)
    assert DATA == cache.ensure(source, BLOB, "once").read_bytes()  # type: ignore[arg-type]
    assert 2 == source.reads


def test_never_trusts_content_but_not_size(source: Counting) -> None:
    cache = Cache()
    path = cache.ensure(source, BLOB, "never")  # type: ignore[arg-type]
    path.chmod(0o644)
    path.write_bytes(b"changed")
    assert b"changed" == cache.ensure(source, BLOB, "never").read_bytes()  # type: ignore[arg-type]
    path.write_bytes(b"short")
    assert DATA == cache.ensure(source, BLOB, "never").read_bytes()  # type: ignore[arg-type]


def test_many_at_once(source: Counting) -> None:
    def fetch() -> None:
        Cache().ensure(source, BLOB, "once")  # type: ignore[arg-type]

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == source.reads


def filled(source: Counting) -> Cache:
    """A cache with 7, 10 and 20 bytes, of which those in the middle were used last."""
    cache = Cache()
    for index, data in enumerate((DATA, b"b" * 20, b"a" * 10)):
        blob = Blob(digest_bytes(data), len(data), "")
        path = cache.ensure(source, blob, "once")  # type: ignore[arg-type]
        os.utime(cache.root / "used" / path.name, (index, index))
    return cache


def test_prune_takes_the_least_recently_used(source: Counting) -> None:
    cache = filled(source)
    assert [7, 20, 10] == [row.size for row in cache.list()]
    assert [7] == [row.size for row in cache.prune(30)]
    assert [20] == [row.size for row in cache.prune(29)]
    assert [10] == [row.size for row in cache.list()]
    assert [10] == [row.size for row in cache.prune(0)]
    assert [] == list((cache.root / "verified").iterdir())


def test_a_limit_holds_after_each_opening(
    source: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(source)
    monkeypatch.setenv("PARTITIONER_CACHE_LIMIT", "15")
    cache = Cache()
    with cache.opening():
        assert 3 == len(cache.list())
    assert [10] == [row.size for row in cache.list()]
    monkeypatch.setenv("PARTITIONER_CACHE_LIMIT", "many")
    with pytest.raises(UsageError, match="number of bytes"):
        Cache()


def test_nothing_is_pruned_while_a_bundle_is_opened(source: Counting) -> None:
    cache = filled(source)
    with cache.opening(), pytest.raises(BlockingIOError):
        cache.prune(0, wait=False)
    assert 3 == len(cache.list())


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PARTITIONER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "partitioner" == default_cache_dir()


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cache cannot be used"):
        Cache(tmp_path / "file")
