"""Writing a bundle: the same bytes each time, and nothing that cannot be read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
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
