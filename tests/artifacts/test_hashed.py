"""When blobs are hashed, and that none is twice."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts import bundle as module
from partitioner.artifacts import hashed as known
from partitioner.artifacts import stamps
from partitioner.artifacts.bundle import Bundle, Verify
from partitioner.artifacts.digest import digest_bytes, digest_stream
from tests.artifacts.damage import blob_file, refused, replace
from tests.artifacts.samples import TABLES, WEIGHTS


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were hashed."""
    sizes: list[int] = []
    plain = module.digest_stream

    def counted(file: Any) -> str:
        sizes.append(os.fstat(file.fileno()).st_size)
        return plain(file)

    monkeypatch.setattr(module, "digest_stream", counted)
    return sizes


@pytest.mark.parametrize(("verify", "count"), [("always", 4), ("once", 1), ("never", 0)])
def test_how_often_is_hashed(path: Path, hashed: list[int], verify: Any, count: int) -> None:
    for _ in range(2):
        bundle = Bundle.open(path, verify)
        bundle.blob_path(digest_bytes(WEIGHTS))
        bundle.blob_path(digest_bytes(WEIGHTS))
    assert [1024] * count == hashed


def test_threads_that_share_a_blob_hash_it_once(
    path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = module.digest_stream

    def slowly(file: Any) -> str:
        time.sleep(0.05)
        return counted(file)

    monkeypatch.setattr(module, "digest_stream", slowly)
    bundle = Bundle.open(path)
    digest = digest_bytes(WEIGHTS)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(bundle.blob_path, [digest] * 4))
    assert {blob_file(path)} == paths
    assert 1 == len(hashed)


def test_once_is_again_for_a_file_that_was_touched(path: Path, hashed: list[int]) -> None:
    bundle = Bundle.open(path)
    bundle.blob_path(digest_bytes(WEIGHTS))
    info = blob_file(path).stat()
    replace(blob_file(path), bytes(1024))
    os.utime(blob_file(path), ns=(info.st_atime_ns, info.st_mtime_ns))
    refused(lambda: bundle.blob_path(digest_bytes(WEIGHTS)))
    assert 2 == len(hashed)


def test_threads(path: Path) -> None:
    bundle = Bundle.open(path)
    found: list[int] = []

    def use() -> None:
        found.extend(len(bundle.read(digest_bytes(data))) for data in (WEIGHTS, TABLES))
        bundle.check()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [120] * 8 + [1024] * 8 == sorted(found)


# --- index, OCI manifest, config ----------------------------------------------------------------


def test_a_later_process_does_not_hash_what_an_earlier_one_has(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stamps, "LEAST_BYTES", 0)
    monkeypatch.setattr(stamps, "_SETTLED_NS", 0)
    hashes: list[int] = []

    def counted(file: Any) -> str:
        hashes.append(1)
        return digest_stream(file)

    monkeypatch.setattr(module, "digest_stream", counted)

    def in_a_new_process(verify: Verify) -> int:
        monkeypatch.setattr(known, "_hashed", set())
        hashes.clear()
        Bundle.open(path, verify).blob_path(digest_bytes(WEIGHTS))
        return len(hashes)

    assert [1, 0, 1, 0] == [in_a_new_process(v) for v in ("once", "once", "always", "never")]
    damaged = bytearray(WEIGHTS)
    damaged[0] ^= 1
    replace(blob_file(path), bytes(damaged))
    refused(lambda: in_a_new_process("once"))
