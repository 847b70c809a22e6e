"""Entries on disk and on S3: whole or not there, whoever writes, and sound or not believed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
from partitioner.caching.entries import Entry
from partitioner.caching.pruning import prune
from partitioner.caching.storage import ENTRIES, Entries
from partitioner.errors import BundleError
from tests.artifacts.store.walking import killed_at_each_step
from tests.caching.stored import entry_of, keep, key_of


@pytest.fixture
def entries(store: Store) -> Entries:
    return Entries(store, 0.0)


def test_what_is_kept_is_found(entries: Entries, tmp_path: Path) -> None:
    entry = keep(entries, tmp_path, "a", b"some graph")
    assert entry == entries.find(key_of("a").digest)
    files = entries.fetch(entry, tmp_path / "out")
    assert {"graph": b"some graph"} == {role: p.read_bytes() for role, p in files.items()}
    assert entries.find(key_of("b").digest) is None


def test_the_first_of_two_writers_wins(entries: Entries, tmp_path: Path) -> None:
    first = keep(entries, tmp_path, "a", b"one")
    path = tmp_path / "other"
    path.write_bytes(b"two")
    assert not entries.keep(entry_of("a", {"graph": path}), {"graph": path})
    assert first == entries.find(key_of("a").digest)


def test_many_writers_at_once_leave_one_whole_entry(entries: Entries, tmp_path: Path) -> None:
    def write(number: int) -> None:
        keep(entries, tmp_path / str(number), "a", b"x" * 100_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    entry = entries.find(key_of("a").digest)
    assert entry is not None
    assert 100_000 == entries.fetch(entry, tmp_path / "out")["graph"].stat().st_size
    assert 1 == len(entries.objects()) == len(list(entries.files()))


def test_writers_in_several_processes(tmp_path: Path) -> None:
    uri = (tmp_path / "store").as_uri()

    def write(number: int) -> None:
        keep(Entries(open_store(uri), 0.0), tmp_path / str(number), "a", b"x" * 100_000)

    processes = [get_context("fork").Process(target=write, args=(n,)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [0] * 4 == [process.exitcode for process in processes]
    entry = Entries(open_store(uri), 0.0).find(key_of("a").digest)
    assert entry is not None
    Entries(open_store(uri), 0.0).fetch(entry, tmp_path / "out")


def test_a_writer_killed_at_any_step_leaves_a_whole_entry_or_none(tmp_path: Path) -> None:
    step = 0

    def act() -> None:
        keep(entries_at(step), tmp_path / f"work{step}", "a")

    def entries_at(number: int) -> Entries:
        return Entries(open_store((tmp_path / f"store{number}").as_uri()), 0.0)

    for _ in killed_at_each_step(act, 2):
        entries = entries_at(step)
        entry = entries.find(key_of("a").digest)
        if entry is not None:
            entries.fetch(entry, tmp_path / f"out{step}")
        again = keep(entries, tmp_path / f"work{step}", "a")
        entries.fetch(again, tmp_path / f"again{step}")
        prune(entries, 0)
        left = [p for p in (tmp_path / f"store{step}").rglob("*") if p.is_file()]
        assert [] == [p.name for p in left if p.name != ".lock" and ".partial" not in p.parts]
        step += 1
    assert step > 5


# --- damage -------------------------------------------------------------------------------------


def overwrite(store: Store, key: str, data: bytes) -> None:
    store.delete(key)
    assert store.put_if_absent(key, data)


def entry_key(name: str) -> str:
    return f"{ENTRIES}{key_of(name).digest.removeprefix('sha256:')}.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-9], "not valid JSON"),
        (lambda data: data.replace(b'"a":1', b'"a":2'), "its own digest"),
        (lambda data: b"[]", "no entry"),
        (lambda data: keep_digest(data, {"x": 1}), "malformed"),
        (lambda data: keep_digest(data, with_role(data, "../../x")), "names no file"),
        (lambda data: keep_digest(data, with_blob(data, "sha256:0")), "not a sha256 digest"),
    ],
)
def test_a_damaged_entry_is_known(
    change: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    entries = Entries(open_store((tmp_path / "store").as_uri()), 0.0)
    data = keep(entries, tmp_path, "a").to_json()
    overwrite(entries.store, entry_key("a"), change(data))
    with pytest.raises(BundleError, match=message):
        entries.find(key_of("a").digest)


def keep_digest(data: bytes, document: object) -> bytes:
    """An entry that somebody wrote on purpose."""
    from partitioner.artifacts.digest import digest_bytes

    return dumps({"entry": document, "digest": digest_bytes(dumps(document))})


def with_role(data: bytes, role: str) -> object:
    document = loads(data, "")["entry"]
    return {**document, "files": {role: document["files"]["graph"]}}


def with_blob(data: bytes, digest: str) -> object:
    document = loads(data, "")["entry"]
    return {**document, "files": {"graph": {**document["files"]["graph"], "digest": digest}}}


def test_an_entry_under_another_key_is_not_believed(entries: Entries, tmp_path: Path) -> None:
    entry = keep(entries, tmp_path, "a")
    entries.store.put_if_absent(entry_key("b"), entry.to_json())
    with pytest.raises(BundleError, match="another key"):
        entries.find(key_of("b").digest)


@pytest.mark.parametrize("data", [None, b"grapH", b"gr"])
def test_a_file_that_is_missing_or_changed_is_not_believed(
    entries: Entries, tmp_path: Path, data: bytes | None
) -> None:
    entry = keep(entries, tmp_path, "a")
    key = blob_key(entry.files["graph"].digest)
    entries.store.delete(key)
    if data is not None:
        entries.store.put_if_absent(key, data)
    with pytest.raises(BundleError):
        entries.fetch(entry, tmp_path / "out")
    entries.drop(entry.key.digest, entry)
    assert entries.find(entry.key.digest) is None
    again = keep(entries, tmp_path, "a")
    assert b"graph" == entries.fetch(again, tmp_path / "out2")["graph"].read_bytes()


def test_json_and_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    entry = entry_of("a", {"graph": path, "constants": path})
    assert entry == Entry.from_json(entry.to_json(), entry.key.digest, "here")
    assert 2 == entry.size
