"""Collections: what stays, what goes, and what happens at the same time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.store import lease
from partitioner.artifacts.store import push as push_module
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.gc import collect
from partitioner.artifacts.store.layout import (
    GC_KEY,
    Pointer,
    blob_key,
    channel_key,
    write_digests,
    writer_key,
)
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.refs import remove
from partitioner.errors import ConflictError, PartitionerError, StoreError, UsageError
from tests.artifacts.samples import manifest, write_bundle
from tests.artifacts.store.conftest import keys_of
from tests.artifacts.store.walking import Stepped

RUBBISH = f"blobs/sha256/{'0' * 64}"


def settle() -> None:
    """Let the store's clock, which S3 tells in whole seconds, go on."""
    time.sleep(1.1)


def check(uri: str, folder: Path) -> None:
    pulled = pull(
        open_store(uri),
        parse_reference(f"{uri}/sample@t"),
        folder,
        cache=Cache(folder.with_suffix(".cache")),
    )
    Bundle.open(pulled.path).check()


def test_what_goes_and_what_stays(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, store, tag="t")
    write_bundle(tmp_path / "other", manifest().replace(version="2"))
    push(tmp_path / "other", store)
    remove(store, parse_reference(f"{uri}/sample@2"))
    store.put_if_absent(RUBBISH, b"x")
    young = collect(store)
    assert (8, 1, []) == (young.kept, young.young, young.removed)
    settle()
    told = collect(store, grace=0, dry_run=True)
    assert (6, 3) == (told.kept, len(told.removed))
    done = collect(store, grace=0)
    assert told.removed == done.removed
    assert 6 == len(keys_of(store, "blobs/"))
    assert [] == [*keys_of(store, "gc/"), *keys_of(store, "writers/")]
    check(uri, tmp_path / "out")


def test_a_running_push_keeps_what_it_relies_on(store: Store) -> None:
    store.put_if_absent(RUBBISH, b"x")
    store.put_if_absent(writer_key("me"), write_digests(["sha256:" + "0" * 64]))
    settle()
    assert [] == collect(store, grace=0).removed
    store.delete(writer_key("me"))
    assert [RUBBISH] == collect(store, grace=0).removed


@pytest.mark.parametrize("content", [None, b"damaged", b"{}"])
def test_nothing_is_removed_if_something_points_nowhere(
    store: Store, content: bytes | None
) -> None:
    from partitioner.artifacts.digest import digest_bytes

    digest = digest_bytes(b"{}")
    if content is not None:
        store.put_if_absent(blob_key(digest), content)
    pointer = Pointer("sample", "1", digest, 2, 2)
    store.put_if_absent(channel_key("sample", "t"), pointer.to_json())
    store.put_if_absent(RUBBISH, b"x")
    with pytest.raises(StoreError, match="points to"):
        collect(store, grace=0)
    assert store.head(RUBBISH) is not None
    assert store.head(GC_KEY) is None


def test_a_grace_that_is_no_number_is_refused(store: Store) -> None:
    store.put_if_absent(RUBBISH, b"")
    with pytest.raises(UsageError, match="the grace is a number of seconds"):
        collect(store, grace=float("nan"))
    assert RUBBISH in keys_of(store)


def test_one_collection_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lease.Lease(store)
    with pytest.raises(ConflictError, match="another collection"):
        lease.Lease(store)
    monkeypatch.setattr(lease, "LEASE", -1.0)
    theirs = lease.Lease(store)
    monkeypatch.setattr(lease, "HOLD", 0.0)
    with pytest.raises(ConflictError, match="taken over"):
        mine.hold()
    mine.release()
    theirs.hold()
    theirs.release()
    assert store.head(GC_KEY) is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "_POLL", 0.01)


def local(path: Path) -> Store:
    return open_store(path.as_uri())


def test_a_collection_at_each_step_of_a_push(bundle: Path, tmp_path: Path, quick: None) -> None:
    step = steps = 1
    while step <= steps:
        store = local(tmp_path / str(step))
        push(bundle, store, name="old")
        remove(store, parse_reference(f"{store.uri}/old@1.2"))

        def before(count: int, store: Store = store, at: int = step) -> None:
            if count == at:
                collect(store, grace=0)

        stepped: Any = Stepped(store, before)
        push(bundle, stepped, tag="t")
        steps = stepped.steps
        check(store.uri, tmp_path / f"out-{step}")
        step += 1
    assert steps > 10


def test_a_push_at_each_step_of_a_collection(bundle: Path, tmp_path: Path, quick: None) -> None:
    step = steps = 1
    while step <= steps:
        store = local(tmp_path / str(step))
        push(bundle, store, name="old")
        remove(store, parse_reference(f"{store.uri}/old@1.2"))
        failures: list[PartitionerError] = []

        def pushing(store: Store = store, failures: list[PartitionerError] = failures) -> None:
            try:
                push(bundle, store, tag="t")
            except PartitionerError as error:
                failures.append(error)

        thread = threading.Thread(target=pushing)

        def before(count: int, at: int = step, thread: threading.Thread = thread) -> None:
            if count == at:
                thread.start()
            if thread.is_alive():
                time.sleep(0.002)

        stepped: Any = Stepped(store, before)
        collect(stepped, grace=0)
        steps = stepped.steps
        if thread.ident is not None:
            thread.join()
            assert [] == failures
            check(store.uri, tmp_path / f"out-{step}")
        step += 1
    assert steps > 10


def test_two_pushes_at_once(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "other", manifest().replace(version="2"))
    results: list[object] = []

    def pushing(path: Path) -> None:
        try:
            results.append(push(path, open_store(uri), tag="t").version)
        except ConflictError as error:
            results.append(error)

    threads = [threading.Thread(target=pushing, args=(p,)) for p in (bundle, tmp_path / "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [result for result in results if isinstance(result, str)]
    assert won
    check(uri, tmp_path / "out")
    for version in ("1.2", "2"):
        reference = parse_reference(f"{uri}/sample@{version}")
        pull(open_store(uri), reference, tmp_path / version, cache=Cache())


def test_pulls_while_collections_run(store: Store, uri: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, store, tag="t")
    store.put_if_absent(RUBBISH, b"x")
    settle()
    thread = threading.Thread(target=lambda: [collect(open_store(uri), grace=0) for _ in range(3)])
    thread.start()
    for index in range(3):
        check(uri, tmp_path / str(index))
    thread.join()
    assert store.head(RUBBISH) is None
