"""Where a bundle is written: what was there, and that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import BundleError, OutputError
from tests.artifacts.samples import BLOBS, GRAPH, listed, manifest, write_bundle

# --- the output ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda p: p.symlink_to("nowhere")])
def test_an_existing_output_is_kept(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "b")
    with pytest.raises(OutputError, match="exists already") as caught:
        write_bundle(tmp_path / "b")
    assert str(tmp_path / "b") == caught.value.where
    assert "--overwrite" in (caught.value.advice or "")
    with pytest.raises(OutputError, match="is not a bundle, so it is not overwritten"):
        write_bundle(tmp_path / "b", overwrite=True)
    assert ["b"] == listed(tmp_path)


def test_an_output_that_appears_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"), BundleWriter(tmp_path / "b") as w:
        for data, media_type in BLOBS.items():
            w.add_bytes(data, media_type)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "theirs").touch()
        w.commit(manifest())
    assert ["b"] == listed(tmp_path)
    assert ["theirs"] == listed(tmp_path / "b")


def test_overwriting(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    with Bundle.open(tmp_path / "b").blob_path(digest_bytes(GRAPH)).open("rb") as old:
        second = write_bundle(tmp_path / "b", manifest().replace(version="2"), overwrite=True)
        assert GRAPH == old.read()
    assert (second, "2") == (
        Bundle.open(tmp_path / "b").digest,
        Bundle.open(tmp_path / "b").manifest.version,
    )
    assert ["b"] == listed(tmp_path)


def test_overwriting_nothing(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", overwrite=True)
    Bundle.open(tmp_path / "b").check()


def test_a_failed_overwrite_keeps_the_old(tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "b")
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", manifest().replace(blobs=()), overwrite=True)
    assert digest == Bundle.open(tmp_path / "b").digest
    assert ["b"] == listed(tmp_path)


def test_readers_find_a_whole_bundle_at_any_time(tmp_path: Path) -> None:
    contents = [manifest().replace(version=str(i)) for i in range(30)]
    write_bundle(tmp_path / "b", contents[0])
    stop, faults = threading.Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            if not (tmp_path / "b" / "index.json").exists():
                faults.append("it was not there")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in contents[1:]:
            write_bundle(tmp_path / "b", content, overwrite=True)
    finally:
        stop.set()
        reader.join()
    assert [] == faults


def test_parents_are_made(tmp_path: Path) -> None:
    write_bundle(tmp_path / "deep" / "er" / "b")
    Bundle.open(tmp_path / "deep" / "er" / "b").check()


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with BundleWriter("b") as writer:
        monkeypatch.chdir("/")
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        writer.commit(manifest())
    Bundle.open(tmp_path / "b").check()


# --- failing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["file", "file/deeper"])
def test_an_output_that_cannot_be(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_bundle(tmp_path / parent / "b")
    assert all((caught.value.where, caught.value.advice))
    assert ["file"] == listed(tmp_path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        write_bundle(tmp_path / ("x" * 250))
    assert [] == listed(tmp_path)


@pytest.mark.skipif(
    not Path("/sys/kernel").is_dir(), reason="no directory that even root is denied"
)
def test_a_directory_without_permission() -> None:
    with pytest.raises(OutputError, match=r"cannot be written: (Operation not p|P)ermi") as caught:
        write_bundle(Path("/sys/kernel/sample.bundle"))
    assert "can be written" in (caught.value.advice or "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, ValueError])
def test_exceptions_leave_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), BundleWriter(tmp_path / "b") as writer:
        writer.add_bytes(b"some", "")
        raise error
    assert [] == listed(tmp_path)


@pytest.mark.parametrize("function", ["fsync", "fchmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    def failing(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    raises = pytest.raises(OutputError, match=os.strerror(code))
    with raises as caught, BundleWriter(tmp_path / "b") as writer:
        monkeypatch.setattr(os, function, failing)
        writer.add_bytes(b"some", "")
    monkeypatch.undo()
    assert ("make room" in (caught.value.advice or "")) == (code != errno.EIO)
    assert str(tmp_path / "b") == caught.value.where
    assert [] == listed(tmp_path)


def test_errors_on_each_call_of_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the disk gives up, nothing is left; behind the last step, it is the whole."""
    plain, calls = os.fsync, 0
    for limit in range(40):
        calls = 0

        def failing(handle: int, limit: int = limit) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise OSError(errno.EIO, "gone")
            plain(handle)

        monkeypatch.setattr(os, "fsync", failing)
        try:
            write_bundle(tmp_path / "b")
        except OutputError:
            assert [] == listed(tmp_path)
        else:
            break
    assert calls - 1 == limit
    Bundle.open(tmp_path / "b").check()
