"""Bounded by size and age, the least recently used first."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from partitioner.artifacts.store.locations import open_store
from partitioner.caching import pruning
from partitioner.caching.pruning import list_entries, prune
from partitioner.caching.storage import ENTRIES, Entries
from tests.caching.stored import keep, key_of

KIB = b"x" * 1024


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    """Entries a, b and c of a KiB each, used three, two and one days ago."""
    found = Entries(open_store((tmp_path / "store").as_uri()), 0.0)
    for days, name in ((3, "a"), (2, "b"), (1, "c")):
        keep(found, tmp_path, name, name.encode() + KIB)
        age(tmp_path, name, days)
    return found


def path_of(folder: Path, name: str) -> Path:
    return folder / "store" / f"{ENTRIES}{key_of(name).digest.removeprefix('sha256:')}.json"


def age(folder: Path, name: str, days: float) -> None:
    when = time.time() - days * 86400
    os.utime(path_of(folder, name), (when, when))


def names(entries: Entries) -> list[str]:
    return [row.entry.name for row in list_entries(entries) if row.entry is not None]


def test_the_least_recently_used_go_until_the_rest_fits(entries: Entries) -> None:
    assert ["a", "b", "c"] == names(entries)
    total = sum(row.size for row in list_entries(entries)) + 3 * 1025
    assert () == prune(entries, total).keys
    done = prune(entries, total - 1)
    assert (key_of("a").digest,) == done.keys
    assert done.size > 1025
    assert ["b", "c"] == names(entries)
    assert 2 == len(list(entries.files()))


def test_a_use_is_noted(entries: Entries, tmp_path: Path) -> None:
    first = entries.find(key_of("a").digest)
    assert first is not None
    entries.touch(first)
    assert ["b", "c", "a"] == names(entries)


def test_a_use_is_not_noted_again_too_soon(entries: Entries) -> None:
    lazy = Entries(entries.store, 10 * 86400.0)
    first = lazy.find(key_of("a").digest)
    assert first is not None
    lazy.touch(first)
    assert ["a", "b", "c"] == names(entries)


def test_what_was_not_used_for_long_goes(entries: Entries) -> None:
    prune(entries, None, 2.5 * 86400)
    assert ["b", "c"] == names(entries)


def test_nothing_is_left_of_nothing(entries: Entries, tmp_path: Path) -> None:
    assert 3 == len(prune(entries, 0).keys)
    left = [p.name for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert [] == [name for name in left if name != ".lock"]


def test_a_file_that_others_name_stays(entries: Entries, tmp_path: Path) -> None:
    keep(entries, tmp_path, "d", b"a" + KIB)
    prune(entries, None, 2.5 * 86400)
    fourth = entries.find(key_of("d").digest)
    assert fourth is not None
    entries.fetch(fourth, tmp_path / "out")


def test_damaged_entries_go_and_files_that_nobody_names(
    entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(tmp_path, "a")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert [key_of("a").digest] == [row.key for row in list_entries(entries) if not row.entry]
    prune(entries, None)
    assert ["b", "c"] == names(entries)
    # Its file may be of a writer that is about to name it.
    assert 3 == len(list(entries.files()))
    monkeypatch.setattr(pruning, "_GRACE", -1.0)
    assert 1025 == prune(entries, None).size
    assert 2 == len(list(entries.files()))
