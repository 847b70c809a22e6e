"""The disk in front of another store: what is looked up where, kept where, and done without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
from partitioner.caching.cache import CompileCache
from partitioner.caching.history import read_records
from partitioner.caching.keys import Key, part
from partitioner.caching.options import CacheOptions
from partitioner.errors import UsageError
from tests.artifacts.store.servers import free_port
from tests.caching.stored import key_of


@pytest.fixture
def options(uri: str, tmp_path: Path) -> CacheOptions:
    return CacheOptions(remote=uri, folder=tmp_path / "disk")


def opened(options: CacheOptions, pipeline: str = "pipe") -> CompileCache:
    cache = CompileCache.open(options, pipeline)
    assert cache is not None
    return cache


def keep(cache: CompileCache, folder: Path, name: str = "a") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"graph")
    cache.keep("segment", name, key_of(name), {"graph": folder / name}, {"n": 1})


def where(cache: CompileCache, folder: Path, name: str = "a") -> str | None:
    found = cache.find("segment", name, key_of(name), folder / "out")
    if found is None:
        return None
    assert b"graph" == found.files["graph"].read_bytes()
    return found.where


def test_off_is_no_cache(tmp_path: Path) -> None:
    assert CompileCache.open(CacheOptions("off"), "pipe") is None


def test_others_find_what_one_has_kept(options: CacheOptions, tmp_path: Path) -> None:
    keep(opened(options), tmp_path / "work")
    assert "disk" == where(opened(options), tmp_path)
    other = replace(options, folder=tmp_path / "another")
    assert "remote" == where(opened(other), tmp_path)
    # From now on it is on that disk, too.
    assert "disk" == where(opened(other), tmp_path)
    assert where(opened(replace(options, remote=None, folder=tmp_path / "third")), tmp_path) is None


def test_reading_only_writes_nowhere(options: CacheOptions, tmp_path: Path) -> None:
    reader = replace(options, mode="read", folder=tmp_path / "reader")
    cache = opened(reader)
    keep(cache, tmp_path / "work")
    assert where(opened(options), tmp_path) is None
    keep(opened(options), tmp_path / "work")
    assert "remote" == where(cache, tmp_path)
    cache.finish()
    assert not (tmp_path / "reader").exists()


def test_bundles_of_the_same_store_are_apart(options: CacheOptions, tmp_path: Path) -> None:
    keep(opened(options), tmp_path / "work")
    assert options.remote is not None
    assert [] == list(open_store(options.remote).list("blobs/"))


def test_a_kind_of_its_own(options: CacheOptions, tmp_path: Path) -> None:
    keep(opened(options), tmp_path / "work")
    assert opened(options).find("parity", "a", key_of("a"), tmp_path / "out") is None


def test_an_unreachable_remote_cache_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    cache = opened(CacheOptions(remote="s3://nowhere/x", folder=tmp_path / "disk"))
    assert where(cache, tmp_path) is None
    keep(cache, tmp_path / "work")
    keep(cache, tmp_path / "work", "b")
    assert "disk" == where(cache, tmp_path)
    assert ["remote, to read", "remote, to write"] == [
        w.split("(")[1].split(")")[0] for w in cache.warnings
    ]


def test_who_may_not_write_may_read(
    options: CacheOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(opened(options), tmp_path / "work")
    web = replace(options, folder=tmp_path / "new")
    cache = opened(web)
    assert cache.remote is not None

    from partitioner.errors import StoreError

    def refuse(*arguments: object) -> bool:
        raise StoreError("the store refuses")

    monkeypatch.setattr(cache.remote.store, "put_if_absent", refuse)
    monkeypatch.setattr(cache.remote.store, "upload_if_absent", refuse)
    keep(cache, tmp_path / "work", "b")
    assert 1 == len(cache.warnings)
    assert "remote" == where(cache, tmp_path)


def test_a_damaged_file_is_told_dropped_and_found_elsewhere(
    options: CacheOptions, tmp_path: Path
) -> None:
    keep(opened(options), tmp_path / "work")
    cache = opened(options)
    (blob,) = [key for key, _ in cache.disk.files()]
    cache.disk.store.delete(blob_key(blob))
    cache.disk.store.put_if_absent(blob_key(blob), b"grapH")
    assert "remote" == where(cache, tmp_path)
    assert 1 == len(cache.warnings)
    assert "damaged, and dropped" in cache.warnings[0]
    assert "disk" == where(opened(options), tmp_path)


def test_a_miss_names_what_is_other_in_the_nearest_entry(
    options: CacheOptions, tmp_path: Path
) -> None:
    old = opened(options)
    keep(old, tmp_path / "work", "a")
    keep(old, tmp_path / "work", "b")
    # Another machine of the team, with an empty disk.
    cache = opened(replace(options, folder=tmp_path / "another"))
    key = Key((part("graph", {"name": "new"}), part("weights", {"digest": "same"})))
    cache.find("segment", "b", key, tmp_path / "out")
    (lookup,) = cache.lookups
    assert ("pipe/b", ("graph (name b -> new)",)) == (lookup.nearest, lookup.differences)
    assert "segment b: made anew; other than in pipe/b are graph (name b -> new)" == lookup.text()


def test_another_pipelines_segment_is_near_only_if_it_is_the_same_graph(
    options: CacheOptions, tmp_path: Path
) -> None:
    keep(opened(options), tmp_path / "work", "a")
    cache = opened(options, "other")
    weights = part("weights", {"digest": "other"})
    cache.find("segment", "z", Key((part("graph", {"name": "a"}), weights)), tmp_path)
    cache.find("segment", "z", Key((part("graph", {"name": "z"}), weights)), tmp_path)
    assert ["pipe/a", ""] == [lookup.nearest for lookup in cache.lookups]


def test_the_last_build_of_each_pipeline_is_remembered(tmp_path: Path) -> None:
    options = CacheOptions(folder=tmp_path / "disk")
    for pipeline in ("one", "two", "one"):
        cache = opened(options, pipeline)
        where(cache, tmp_path)
        keep(cache, tmp_path / "work")
        record = cache.finish()
    assert ["one", "two"] == [r.pipeline for r in read_records(cache.disk.store)]
    assert ["disk"] == [row["where"] for row in record["lookups"]]


def test_a_full_cache_is_pruned_after_a_build(tmp_path: Path) -> None:
    cache = opened(CacheOptions(folder=tmp_path / "disk", limit=0))
    keep(cache, tmp_path / "work")
    cache.finish()
    assert [] == cache.disk.objects()


def test_the_environment_and_who_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_COMPILE_CACHE", "file:///shared")
    monkeypatch.setenv("PARTITIONER_COMPILE_CACHE_LIMIT", "1000")
    found = CacheOptions.from_environment()
    assert ("use", "file:///shared", 1000) == (found.mode, found.remote, found.limit)
    assert "s3://b" == CacheOptions.from_environment(remote="s3://b").remote
    monkeypatch.setenv("PARTITIONER_COMPILE_CACHE", "off")
    assert "off" == CacheOptions.from_environment().mode
    assert "read" == CacheOptions.from_environment("read").mode
    monkeypatch.setenv("PARTITIONER_COMPILE_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="number of bytes"):
        CacheOptions.from_environment()
    with pytest.raises(UsageError, match="unknown cache mode"):
        CacheOptions(cast(Any, "maybe"))
    with pytest.raises(UsageError):
        CompileCache.open(CacheOptions(remote="nowhere"), "pipe")
