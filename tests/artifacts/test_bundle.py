"""Opening a bundle, its constants and its blobs: sound ones and damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import ConstantRef
from partitioner.specs import TensorSpec
from tests.artifacts.damage import NOWHERE, blob_file, refused, replace
from tests.artifacts.samples import GRAPH, TABLES, WEIGHTS, manifest, ref, write_bundle

# --- sound --------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "b")
    bundle = Bundle.open(tmp_path / "b")
    assert (digest, manifest(), tmp_path / "b") == (bundle.digest, bundle.manifest, bundle.path)
    assert GRAPH == bundle.read(digest_bytes(GRAPH))
    assert GRAPH == bundle.blob_path(digest_bytes(GRAPH)).read_bytes()
    assert bundle.blobs_dir == bundle.blob_path(digest_bytes(GRAPH)).parent
    bundle.check()


def test_the_digest_is_that_of_the_oci_manifest(path: Path) -> None:
    index = json.loads((path / "index.json").read_text())
    assert [Bundle.open(path).digest] == [entry["digest"] for entry in index["manifests"]]


def test_a_copy_elsewhere_is_the_same(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    Bundle.open(copy).check()


def test_a_link_to_a_bundle_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(path)
    Bundle.open(tmp_path / "current").check()


def test_the_path_outlasts_a_change_of_directory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    bundle = Bundle.open(path.name)
    monkeypatch.chdir(path)
    bundle.check()


# --- constants ----------------------------------------------------------------------------------


def test_constants_are_mapped_read_only(path: Path) -> None:
    bundle = Bundle.open(path)
    table = bundle.constant(ref(TABLES, 0, 96), TensorSpec("float32", (3, 2, 4)))
    assert np.array_equal(np.arange(24, dtype=np.float32).reshape(3, 2, 4), table)
    assert isinstance(table, np.memmap)
    assert not table.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1
    ids = bundle.constant(ref(TABLES, 96, 24), TensorSpec("int64", (3,)))
    assert [0, 1, 2] == ids.tolist()


def test_single_numbers_and_empty_arrays(path: Path) -> None:
    bundle = Bundle.open(path)
    one = bundle.constant(ref(TABLES, 4, 4), TensorSpec("float32", ()))
    assert ((), 1.0) == (one.shape, float(one))
    empty = bundle.constant(ref(TABLES, 120, 0), TensorSpec("float16", (3, 0)))
    assert ((3, 0), np.float16, False) == (empty.shape, empty.dtype, empty.flags.writeable)


def test_constants_outlast_the_file(path: Path) -> None:
    table = Bundle.open(path).constant(ref(TABLES, 0, 96), TensorSpec("float32", (24,)))
    shutil.rmtree(path)
    assert 23.0 == float(table[-1])


@pytest.mark.parametrize(
    ("where", "spec", "message"),
    [
        (ref(TABLES, 0, 96), TensorSpec("bfloat16", (48,)), "bfloat16"),
        (ref(TABLES, 0, 96), TensorSpec("float32", (23,)), "takes 92"),
        (ref(TABLES, 120, 4), TensorSpec("float32", (1,)), "from 120 of a blob of 120"),
        (ref(TABLES, -4, 4), TensorSpec("float32", (1,)), "from -4"),
        (ref(TABLES, 2, 4), TensorSpec("float32", (1,)), "not aligned"),
        (ref(TABLES, 0, 8), TensorSpec("object", (1,)), "unknown dtype"),
        (ref(TABLES, 0, 8), TensorSpec("int64", ("n",)), "not a number"),
        (ConstantRef(NOWHERE, 0, 4), TensorSpec("int32", (1,)), "not declared"),
        (ConstantRef("../../etc/passwd", 0, 4), TensorSpec("int32", (1,)), "not a sha256 digest"),
    ],
)
def test_constants_that_are_not_there(
    path: Path, where: ConstantRef, spec: TensorSpec, message: str
) -> None:
    bundle = Bundle.open(path)
    assert message in refused(lambda: bundle.constant(where, spec)).what


# --- not a bundle -------------------------------------------------------------------------------


def test_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    cases = {
        "nothing": "no such directory",
        "file": "not a directory",
        "file/x": "no such directory",
        "empty": "no oci-layout",
        "dangling": "not a directory",
        "x" * 300: "no such directory",
        "a\0b": "no such directory",
    }
    for name, message in cases.items():
        error = refused(lambda name=name: Bundle.open(tmp_path / name))
        assert message in error.what, name
        assert str(tmp_path) in (error.where or "")


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_missing_folders(path: Path, name: str) -> None:
    shutil.rmtree(path / name)
    assert "cannot be read" in refused(lambda: Bundle.open(path)).what


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_linked_folders(path: Path, tmp_path: Path, name: str) -> None:
    (path / name).rename(tmp_path / "outside")
    (path / name).symlink_to(tmp_path / "outside")
    assert "something else has its name" in refused(lambda: Bundle.open(path)).what


# --- blobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["always", "once", "never"])
@pytest.mark.parametrize(("data", "size"), [(WEIGHTS + b"!", 1025), (WEIGHTS[:-1], 1023), (b"", 0)])
def test_another_size(path: Path, verify: Any, data: bytes, size: int) -> None:
    replace(blob_file(path), data)
    bundle = Bundle.open(path, verify)
    error = refused(lambda: bundle.blob_path(digest_bytes(WEIGHTS)))
    assert f"the blob has {size} bytes, declared are 1024" == error.what


@pytest.mark.parametrize("verify", ["always", "once"])
@pytest.mark.parametrize("position", [0, 500, 1023])
def test_a_changed_byte(path: Path, verify: Any, position: int) -> None:
    changed = bytearray(WEIGHTS)
    changed[position] ^= 1
    replace(blob_file(path), bytes(changed))
    bundle = Bundle.open(path, verify)
    error = refused(lambda: bundle.blob_path(digest_bytes(WEIGHTS)))
    assert "its content was changed" in error.what
    assert str(blob_file(path)) == error.where
    refused(lambda: bundle.constant(ref(WEIGHTS, 0, 4), TensorSpec("int32", (1,))))
    refused(lambda: bundle.read(digest_bytes(WEIGHTS)))


def test_never_looks_at_the_size_only_but_check_and_read_hash(path: Path) -> None:
    replace(blob_file(path), bytes(1024))
    bundle = Bundle.open(path, "never")
    assert blob_file(path) == bundle.blob_path(digest_bytes(WEIGHTS))
    assert "its content was changed" in refused(bundle.check).what
    assert "its content was changed" in refused(lambda: bundle.read(digest_bytes(WEIGHTS))).what


def test_a_missing_blob(path: Path) -> None:
    blob_file(path).unlink()
    bundle = Bundle.open(path)
    error = refused(lambda: bundle.blob_path(digest_bytes(WEIGHTS)))
    assert "cannot be read: No such file" in error.what


@pytest.mark.parametrize(
    "digest", [NOWHERE, "sha512:" + "0" * 128, "../oci-layout", "", "sha256:" + "A" * 64]
)
def test_blobs_that_are_not_declared(path: Path, digest: str) -> None:
    (path / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"")
    bundle = Bundle.open(path, "never")
    for action in (bundle.blob_path, bundle.read):
        assert "not declared" in refused(lambda action=action: action(digest)).what


def test_files_beside_the_declared_are_let_be(path: Path) -> None:
    (path / "README").write_text("ours")
    (path / "blobs" / "sha256" / "stray").mkdir()
    Bundle.open(path).check()
