"""kill -9 at every step of writing a bundle, signing, push, pull and collection: nothing lost,
nothing half-visible."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.signatures import (
    merge_signatures,
    read_signatures,
    write_signatures,
)
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.gc import collect
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.refs import list_refs, remove
from tests.artifacts.samples import listed, manifest, write_bundle
from tests.artifacts.store.walking import Stepped, killed_at_each_step

#: One of the ways to end what is done at each of its steps.
Walk = Callable[[Callable[[], None], int], Iterator[int]]

#: Every step takes a while; some of them are looked at each time.
each_step = pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])


def check_whole(uri: str, folder: Path) -> list[str]:
    """Every reference of the store leads to a whole bundle. Gives the references."""
    refs = [row.ref for row in list_refs(open_store(uri))]
    for index, ref in enumerate(refs):
        reference = parse_reference(f"{uri}/sample@{ref}")
        pulled = pull(
            open_store(uri), reference, folder / str(index), cache=Cache(folder / f"cache-{index}")
        )
        Bundle.open(pulled.path).check()
    return refs


@each_step
@pytest.mark.parametrize("overwrite", [False, True])
def test_writing_a_bundle(tmp_path: Path, stride: int, overwrite: bool) -> None:
    old, new = manifest(), manifest().replace(version="2")
    steps = 0
    path = tmp_path / "0" / "b"

    def begin() -> list[str]:
        """The digests that may be there after a kill."""
        path.parent.mkdir()
        return [write_bundle(path, old)] if overwrite else []

    def act() -> None:
        write_bundle(path, new, overwrite=overwrite)

    fine = [write_bundle(tmp_path / "new", new), *begin()]
    for _ in killed_at_each_step(act, stride):
        assert path.exists() or not overwrite
        if path.exists():
            Bundle.open(path).check()
            assert Bundle.open(path).digest in fine
        # The next build removes what the killed one has left.
        assert fine[0] == write_bundle(path, new, overwrite=True)
        assert ["b"] == listed(path.parent)
        steps += 1
        path = tmp_path / str(steps) / "b"
        begin()
    assert steps * stride > 15


def test_signing(tmp_path: Path) -> None:
    path = tmp_path / "b"
    write_bundle(path)
    one, two = (merge_signatures([{"by": name}], None) for name in "ab")
    write_signatures(path, one)
    steps = 0
    for _ in killed_at_each_step(lambda: write_signatures(path, two)):
        assert read_signatures(path) in ([{"by": "a"}], [{"by": "b"}])
        write_signatures(path, one)
        steps += 1
    assert [{"by": "b"}] == read_signatures(path)
    Bundle.open(path).check()
    assert steps >= 2


def push_at_each_step(walk: Walk, bundle: Path, folder: Path, stride: int) -> None:
    """Push to a directory, end it at each step, and see that the next push goes on."""
    step = 0

    def act() -> None:
        push(bundle, open_store((folder / str(step)).as_uri()), tag="t")

    for _ in walk(act, stride):
        uri = (folder / str(step)).as_uri()
        check_whole(uri, folder / f"out-{step}")
        push(bundle, open_store(uri), tag="t")
        assert ["1.2", "t"] == sorted(check_whole(uri, folder / f"again-{step}"))
        step += 1
    assert step * stride > 40


@each_step
def test_push_to_a_directory(bundle: Path, tmp_path: Path, stride: int) -> None:
    push_at_each_step(killed_at_each_step, bundle, tmp_path, stride)


@each_step
def test_pull_from_a_directory(bundle: Path, tmp_path: Path, stride: int) -> None:
    store = open_store((tmp_path / "store").as_uri())
    push(bundle, store, tag="t")
    reference = parse_reference(f"{store.uri}/sample@t")
    step = 0

    def act() -> None:
        pull(store, reference, tmp_path / str(step) / "out", cache=Cache(tmp_path / f"c{step}"))

    for _ in killed_at_each_step(act, stride):
        folder = tmp_path / str(step)
        if (folder / "out").exists():
            Bundle.open(folder / "out").check()
        cache = Cache(tmp_path / f"c{step}")
        pull(store, reference, folder / "out", cache=cache, overwrite=True)
        Bundle.open(folder / "out").check()
        assert ["out"] == listed(folder)
        assert [] == listed(cache.root / "partial")
        step += 1
    assert step * stride > 40


@each_step
def test_collection_in_a_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    # A killed collection's mark is waited for; in this test not for long.
    monkeypatch.setattr("partitioner.artifacts.store.lease.LEASE", -1.0)
    step = 0

    def begin(folder: Path) -> str:
        store = open_store(folder.as_uri())
        push(bundle, store, tag="t", name="sample")
        push(bundle, store, name="gone")
        remove(store, parse_reference(f"{store.uri}/gone@1.2"))
        store.put_if_absent(f"blobs/sha256/{'0' * 64}", b"rubbish")
        return store.uri

    def act() -> None:
        collect(open_store((tmp_path / str(step)).as_uri()), grace=0)

    begin(tmp_path / "0")
    for _ in killed_at_each_step(act, stride):
        uri = (tmp_path / str(step)).as_uri()
        assert ["1.2", "t"] == sorted(check_whole(uri, tmp_path / f"out-{step}"))
        collect(open_store(uri), grace=0)
        assert ["1.2", "t"] == sorted(check_whole(uri, tmp_path / f"again-{step}"))
        step += 1
        begin(tmp_path / str(step))
    assert step * stride > 5


@pytest.mark.slow
def test_push_to_s3(
    new_bucket: Callable[[str], str], s3_endpoint: str, bundle: Path, tmp_path: Path
) -> None:
    for step in range(1, 200):
        uri = new_bucket(s3_endpoint)
        process = get_context("fork").Process(target=_push_killed, args=(bundle, uri, step))
        process.start()
        process.join(60)
        check_whole(uri, tmp_path / f"out-{step}")
        if process.exitcode == 0:
            break
        assert -signal.SIGKILL == process.exitcode
        push(bundle, open_store(uri), tag="t")
        assert ["1.2", "t"] == sorted(check_whole(uri, tmp_path / f"again-{step}"))
    assert step > 10


def _push_killed(bundle: Path, uri: str, step: int) -> None:
    def before(count: int) -> None:
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    # It passes on what a store is asked, without being one.
    push(bundle, cast("Any", Stepped(open_store(uri), before)), tag="t")
    os._exit(0)
