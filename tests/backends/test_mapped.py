"""Pages of mapped files are given back, and come again when they are read."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

from partitioner.backends.mapped import file_mappings, give_back_pages

SIZE = 4 * 2**20


def resident(path: Path) -> int:
    """Bytes of mappings of a file that are in memory, as the kernel counts them."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_pages_of_mappings_made_since_go_and_come_again(tmp_path: Path) -> None:
    path, other = tmp_path / "weights", tmp_path / "other"
    numbers = np.arange(SIZE // 8)
    for one in (path, other):
        numbers.tofile(one)
    before = file_mappings()
    maps = [np.memmap(one, np.int64, "r") for one in (path, other)]
    assert [numbers.sum()] * 2 == [one.sum() for one in maps]
    assert [SIZE, SIZE] == [resident(path), resident(other)]
    assert SIZE == give_back_pages([path], before)
    assert [0, SIZE] == [resident(path), resident(other)]
    assert np.array_equal(numbers, maps[0])


def test_older_mappings_are_not_touched(tmp_path: Path) -> None:
    # Another thread may end one at any time, and take other memory at its address.
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    older = np.memmap(path, np.int64, "r")
    assert 0 == older.sum()
    before = file_mappings()
    newer = np.memmap(path, np.int64, "r")
    assert 0 == newer.sum()
    assert 2 * SIZE == resident(path)
    assert SIZE == give_back_pages([path], before)
    assert SIZE == resident(path)


def test_what_can_be_written_to_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    before = file_mappings()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), SIZE, mmap.MAP_PRIVATE) as mapped:
        mapped[:5] = b"mine!"
        assert 0 == give_back_pages([path], before)
        assert b"mine!" == mapped[:5]
