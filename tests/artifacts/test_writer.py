"""Writing a bundle: the same bytes each time, and all of it or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import BundleError, OutputError
from tests.artifacts.samples import BLOBS, GRAPH, listed, manifest, write_bundle

REPOSITORY = Path(__file__).parents[2]


def tree(path: Path) -> dict[str, tuple[str, int, bytes]]:
    """All that is in a directory: kind and mode, number of links, content."""
    return {
        str(p.relative_to(path)): (
            stat.filemode(p.stat().st_mode),
            p.stat().st_nlink if p.is_file() else 0,
            p.read_bytes() if p.is_file() else b"",
        )
        for p in sorted(path.rglob("*"))
    }


# --- the same each time -------------------------------------------------------------------------


def test_twice_the_same(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "one")
    old = os.umask(0o077)
    try:
        with BundleWriter(tmp_path / "two") as writer:
            for data, media_type in reversed(BLOBS.items()):
                writer.add_bytes(data, media_type)
            second = writer.commit(manifest())
    finally:
        os.umask(old)
    assert first == second
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_digest_is_known(tmp_path: Path) -> None:
    """That of another machine and another day; it changes with the format only."""
    expected = "sha256:098e5176999f82cf2036f3010581e2774b3f4a3fdda8000043d2452c9da87ad8"
    assert expected == write_bundle(tmp_path / "b")


def test_modes_are_fixed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    modes = {name: entry[0] for name, entry in tree(tmp_path / "b").items()}
    assert "drwxr-xr-x" == stat.filemode((tmp_path / "b").stat().st_mode)
    assert {"drwxr-xr-x"} == {modes["blobs"], modes["blobs/sha256"]}
    assert {"-rw-r--r--"} == {modes["oci-layout"], modes["index.json"]}
    blobs = {mode for name, mode in modes.items() if name.startswith("blobs/sha256/")}
    assert {"-r--r--r--"} == blobs


def test_nothing_but_the_bundle_is_there(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    assert ["b"] == listed(tmp_path)
    names = set(tree(tmp_path / "b"))
    assert {"blobs", "blobs/sha256", "index.json", "oci-layout"} == {
        name for name in names if not re.fullmatch(r"blobs/sha256/[0-9a-f]{64}", name)
    }
    assert len(BLOBS) + 2 == len(names) - 4


def test_it_is_an_oci_image_layout(tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "b")
    image = Bundle.open(tmp_path / "b").blobs_dir / digest.removeprefix("sha256:")
    assert b'{"artifactType":"application/vnd.partitioner.bundle.v1+json","config":{' in (
        image.read_bytes()
    )
    assert digest.encode() in (tmp_path / "b" / "index.json").read_bytes()
    assert b'{"imageLayoutVersion":"1.0.0"}' == (tmp_path / "b" / "oci-layout").read_bytes()


# --- blobs --------------------------------------------------------------------------------------


def test_blobs_from_bytes_files_and_chunks(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    array = np.frombuffer(data, "<i4").reshape(2, -1)
    with BundleWriter(tmp_path / "b") as writer:
        expected = Blob(digest_bytes(data), len(data), "a")
        assert expected == writer.add_bytes(data, "a")
        assert expected == writer.add_file(tmp_path / "file", "b")
        assert expected == writer.add_chunks([array[0], b"", memoryview(array[1])], "c")
        assert expected == writer.add_chunks(
            (data[i : i + 1000] for i in range(0, 1280000, 1000)), ""
        )
        assert {expected.digest: expected} == writer.blobs
        assert data == writer.blob_path(expected.digest).read_bytes()
        assert [hashlib.sha256(data).hexdigest()] == listed(writer.blobs_dir)


def test_an_empty_blob(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for chunks in ([], [b""], [np.zeros((3, 0), np.float32)]):
            assert Blob(digest_bytes(b""), 0, "") == writer.add_chunks(chunks, "")


def test_streaming_holds_one_chunk(tmp_path: Path) -> None:
    chunk = bytes(2**20)
    with BundleWriter(tmp_path / "b") as writer:
        tracemalloc.start()
        writer.add_chunks((chunk for _ in range(32)), "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert 2**20 > peak


def test_chunks_that_fail_leave_no_blob(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"some"
        raise LookupError("no more")

    with BundleWriter(tmp_path / "b") as writer:
        for chunks in (failing(), [b"x", "text"], [np.ones((3, 3), order="F")[:, 1:]]):
            with pytest.raises((LookupError, TypeError)):
                writer.add_chunks(chunks, "")
        assert [] == [p for p in writer.blobs_dir.parent.parent.rglob("*") if p.is_file()]
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        writer.commit(manifest())
    assert len(BLOBS) + 2 == len(listed(tmp_path / "b" / "blobs" / "sha256"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for path in (tmp_path / "nothing", tmp_path):
            with pytest.raises(OutputError, match="a file for the bundle cannot be read") as caught:
                writer.add_file(path, "")
            assert str(path) == caught.value.where


def test_maps_outlast_the_commit(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        mapped = np.memmap(writer.blob_path(digest_bytes(GRAPH)), mode="r")
        writer.commit(manifest())
        assert tmp_path / "b" / "blobs" / "sha256" == writer.blobs_dir
        assert GRAPH == writer.blob_path(digest_bytes(GRAPH)).read_bytes()
    assert GRAPH == bytes(mapped)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blobs": ()}, "its blobs are not those that were added"),
        ({"blobs": manifest().blobs[::-1]}, "its blobs are not those that were added"),
        ({"name": "a/b"}, "the bundle's name has the malformed name 'a/b'"),
        ({"options": {"level": float("nan")}}, "nan is not a number"),
        ({"report": {"when": Path()}}, "is not a JSON value"),
        ({"artifacts": {}}, "a segment without artifact"),
        ({"schema_version": "2.0"}, "schema version 2.0"),
        ({"toolchain": {"a": 1}}, "expected str, found 1"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        write_bundle(tmp_path / "b", manifest().replace(**changes))
    assert "damaged" not in (caught.value.advice or "")
    assert [] == listed(tmp_path)


def test_a_blob_that_is_not_declared(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="its blobs are not"), BundleWriter(tmp_path / "b") as w:
        w.add_bytes(b"stray", "")
        for data, media_type in BLOBS.items():
            w.add_bytes(data, media_type)
        w.commit(manifest())
    assert [] == listed(tmp_path)


def test_used_outside_its_context(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    with pytest.raises(RuntimeError, match="inside its context"):
        writer.add_bytes(b"", "")
    with writer:
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        writer.commit(manifest())
        with pytest.raises(RuntimeError, match="until it commits"):
            writer.add_bytes(b"", "")
    assert ["b"] == listed(tmp_path)


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


# --- processes ----------------------------------------------------------------------------------


def start(output: Path, mode: str = "slow") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.artifacts.writing", str(output), mode]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "begun" == process.stdout.readline().strip()
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_signals_leave_nothing(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path / "b")
    assert [] != listed(tmp_path)
    process.send_signal(number)
    assert code == finish(process)[0]
    assert [] == listed(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    """The process may not write files larger than 1 MiB."""
    code, out, err = finish(start(tmp_path / "b", "full"))
    assert (OutputError.exit_code, "") == (code, err)
    assert "OutputError: a file cannot be written: File too large" in out
    assert "make room on the disk" in out
    assert [] == listed(tmp_path)


def test_a_killed_process_leaves_what_the_next_one_sweeps(tmp_path: Path) -> None:
    process, other = start(tmp_path / "b"), start(tmp_path / "c")
    process.kill()
    assert -signal.SIGKILL == finish(process)[0]
    left = listed(tmp_path)
    assert ["b", "c"] == sorted(re.fullmatch(r"\.(.)\.\w+\.partial", n)[1] for n in left)  # type: ignore[index]
    write_bundle(tmp_path / "b")
    assert {"b"} == set(listed(tmp_path)) - set(left)
    assert 2 == len(listed(tmp_path))  # The other one's is still there: it lives.
    other.terminate()
    finish(other)
    assert ["b"] == listed(tmp_path)


def test_a_living_process_is_let_be(tmp_path: Path) -> None:
    process = start(tmp_path / "b")
    before = listed(tmp_path)
    write_bundle(tmp_path / "b")
    assert {*before, "b"} == set(listed(tmp_path))
    process.terminate()
    finish(process)
    assert ["b"] == listed(tmp_path)
    Bundle.open(tmp_path / "b").check()


def test_the_handler_of_sigterm_is_put_back(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with BundleWriter(tmp_path / "b"):
            assert signal.SIG_DFL != signal.getsignal(signal.SIGTERM)
        assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_the_program_is_let_be(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with BundleWriter(tmp_path / "b"):
            assert signal.SIG_IGN == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_set_no_handler(tmp_path: Path) -> None:
    written: list[str] = []
    thread = threading.Thread(target=lambda: written.append(write_bundle(tmp_path / "b")))
    thread.start()
    thread.join()
    assert [Bundle.open(tmp_path / "b").digest] == written
