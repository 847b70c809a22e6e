"""A disk that fills up at any step of build, pull and push: told, nothing half-visible, resumed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts import hashed
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.errors import OutputError, StoreError
from tests.artifacts.samples import listed, manifest, write_bundle
from tests.artifacts.store.test_kills import check_whole, each_step, push_at_each_step
from tests.artifacts.store.walking import failed_at_each_step

#: Bytes of the largest file that may be written: less than a blob, a document, a manifest has.
SIZES = (0, 100, 3000)


@each_step
def test_build(tmp_path: Path, stride: int) -> None:
    path = tmp_path / "out" / "b"
    path.parent.mkdir()
    write_bundle(path)
    before = Bundle.open(path).digest

    def act() -> None:
        write_bundle(path, manifest().replace(version="2"), overwrite=True)

    steps = 0
    for _ in failed_at_each_step(act, stride):
        # Nothing is left, and the old one is whole.
        assert (["b"], before) == (listed(path.parent), Bundle.open(path).digest)
        steps += 1
    Bundle.open(path).check()
    assert (["b"], True) == (listed(path.parent), before != Bundle.open(path).digest)
    assert steps * stride > 10


@each_step
def test_pull(bundle: Path, tmp_path: Path, stride: int) -> None:
    store = open_store((tmp_path / "store").as_uri())
    push(bundle, store, tag="t")
    reference = parse_reference(f"{store.uri}/sample@t")
    step = 0

    def act() -> None:
        pull(store, reference, tmp_path / str(step) / "out", cache=Cache(tmp_path / f"c{step}"))

    for _ in failed_at_each_step(act, stride):
        folder = tmp_path / str(step)
        assert [] == (listed(folder) if folder.exists() else [])
        # Of the cache, too, all that is there is whole.
        pull(store, reference, folder / "out", cache=Cache(tmp_path / f"c{step}"))
        Bundle.open(folder / "out").check()
        step += 1
    assert step * stride > 40


@each_step
def test_push(bundle: Path, tmp_path: Path, stride: int) -> None:
    push_at_each_step(failed_at_each_step, bundle, tmp_path, stride)


def test_a_full_disk_costs_nothing_of_the_cache(bundle: Path, tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    push(bundle, store, tag="t")
    reference = parse_reference(f"{store.uri}/sample@t")
    cache = Cache()
    pull(store, reference, tmp_path / "first", cache=cache)
    there = {row.digest for row in cache.list()}
    for path in (cache.root / "verified").iterdir():
        path.unlink()  # As if all were to be hashed anew, and noted down.

    def act() -> None:
        hashed._hashed.clear()
        pull(store, reference, tmp_path / "again", cache=cache)

    for _ in failed_at_each_step(act, 5):
        assert there == {row.digest for row in cache.list()}


def limited(act: Callable[[], object], size: int) -> str:
    """What ``act`` says in a process that may not write a file of more bytes."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_limited, args=(act, size, send))
    process.start()
    process.join(60)
    assert 0 == process.exitcode
    return receive.recv()


def _limited(act: Callable[[], object], size: int, send: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        act()
    except (OutputError, StoreError) as error:
        send.send(f"{error}")
        os._exit(0)
    os._exit(1)


@pytest.mark.parametrize("size", SIZES)
def test_a_write_that_fails_in_the_middle(bundle: Path, tmp_path: Path, size: int) -> None:
    store = open_store((tmp_path / "store").as_uri())
    assert "File too large" in limited(lambda: push(bundle, store, tag="t"), size)
    assert [] == check_whole(store.uri, tmp_path / "none")
    push(bundle, store, tag="t")
    reference = parse_reference(f"{store.uri}/sample@t")
    told = limited(lambda: pull(store, reference, tmp_path / "out", cache=Cache()), size)
    assert "File too large" in told
    assert not (tmp_path / "out").exists()
    pull(store, reference, tmp_path / "out", cache=Cache())
    Bundle.open(tmp_path / "out").check()
