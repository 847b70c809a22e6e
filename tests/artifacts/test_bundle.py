"""Opening a bundle: sound ones, damaged ones, and those made by an enemy."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts import bundle as module
from partitioner.artifacts import hashed as known
from partitioner.artifacts import stamps
from partitioner.artifacts.bundle import Bundle, Verify
from partitioner.artifacts.digest import digest_bytes, digest_stream, hex_of
from partitioner.artifacts.manifest import ConstantRef
from partitioner.artifacts.signatures import write_signatures
from partitioner.errors import BundleError
from partitioner.specs import TensorSpec
from tests.artifacts.samples import GRAPH, TABLES, WEIGHTS, manifest, ref, write_bundle

NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "sample.bundle")
    return tmp_path / "sample.bundle"


def blob_file(path: Path, data: bytes = WEIGHTS) -> Path:
    return path / "blobs" / "sha256" / hex_of(digest_bytes(data))


def replace(file: Path, data: bytes) -> None:
    """Another file in its place, as an enemy or a bad copy would leave it."""
    file.unlink()
    file.write_bytes(data)


def refused(action: Callable[[], Any]) -> BundleError:
    with pytest.raises(BundleError) as caught:
        action()
    assert all((caught.value.what, caught.value.advice))
    return caught.value


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


# --- files that are none ------------------------------------------------------------------------


def make_link(file: Path) -> None:
    target = file.with_name("target")
    file.rename(target)
    file.symlink_to(target)


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_device_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


KINDS = [make_link, make_pipe, make_directory, make_device_link]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_odd_files_in_place_of_the_index(path: Path, make: Any, name: str) -> None:
    make(path / name)
    error = refused(lambda: Bundle.open(path))
    assert "is not a plain file" in error.what
    assert str(path / name) == error.where


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("verify", ["always", "once", "never"])
def test_odd_files_in_place_of_a_blob(path: Path, make: Any, verify: Any) -> None:
    bundle = Bundle.open(path, verify)
    make(blob_file(path))
    for action in (bundle.blob_path, bundle.read):
        error = refused(lambda action=action: action(digest_bytes(WEIGHTS)))
        assert "is not a plain file" in error.what
        assert str(blob_file(path)) == error.where


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_device_files(path: Path) -> None:
    bundle = Bundle.open(path)
    blob_file(path).unlink()
    os.mknod(blob_file(path), 0o600 | 0o020000, os.makedev(1, 5))
    assert "is not a plain file" in refused(bundle.check).what


def test_a_pipe_that_comes_between_look_and_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(path)
    plain, calls = Path.lstat, list[Path]()

    def lstat(self: Path) -> os.stat_result:
        info = plain(self)
        if self == blob_file(path) and not calls:
            calls.append(self)
            make_pipe(self)
        return info

    monkeypatch.setattr(Path, "lstat", lstat)
    assert "is not a plain file" in refused(lambda: bundle.read(digest_bytes(WEIGHTS))).what


def test_a_hard_link_to_another_file_is_read_as_what_it_is(path: Path, tmp_path: Path) -> None:
    """It has the size of the blob, and is a plain file; its content tells."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * len(WEIGHTS))
    blob_file(path).unlink()
    blob_file(path).hardlink_to(secret)
    modes: tuple[Verify, ...] = ("always", "once")
    for verify in modes:
        bundle = Bundle.open(path, verify)
        assert "its content was changed" in refused(bundle.check).what
        refused(lambda bundle=bundle: bundle.read(digest_bytes(WEIGHTS)))


def test_nothing_is_written_through_a_hard_link(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (path / "signatures.json").hardlink_to(secret)
    blob_file(path).unlink()
    blob_file(path).hardlink_to(secret)
    mode = secret.stat().st_mode
    write_signatures(path, b'{"signatures":[]}')
    write_bundle(path, manifest(), overwrite=True)
    assert (b"secret", mode) == (secret.read_bytes(), secret.stat().st_mode)
    Bundle.open(path).check()


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


# --- when is hashed -----------------------------------------------------------------------------


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


def rewrite(path: Path, change: Callable[[Any, Any, Any], Any]) -> None:
    """Change index, OCI manifest and manifest, and make all digests fit again."""
    index = json.loads((path / "index.json").read_text())
    image = json.loads(blob(path, index["manifests"][0]["digest"]))
    config = json.loads(blob(path, image["config"]["digest"]))
    before = json.dumps((image, index))
    change(index, image, config)
    after = json.dumps((image, index))
    if before == after:
        put(path, image["config"], config)
        put(path, index["manifests"][0], image)
    elif json.loads(before)[1] == index:
        put(path, index["manifests"][0], image)
    (path / "index.json").write_text(json.dumps(index))


def blob(path: Path, digest: str) -> bytes:
    return (path / "blobs" / "sha256" / hex_of(digest)).read_bytes()


def put(path: Path, descriptor: Any, document: Any) -> None:
    data = json.dumps(document).encode()
    descriptor.update(digest=digest_bytes(data), size=len(data))
    (path / "blobs" / "sha256" / hex_of(digest_bytes(data))).write_bytes(data)


CHANGES: list[tuple[Callable[[Any, Any, Any], Any], str]] = [
    (lambda x, i, c: x.clear(), "no valid 'manifests'"),
    (lambda x, i, c: x.update(manifests={}), "no valid 'manifests'"),
    (lambda x, i, c: x.update(manifests=[]), "0 bundles are listed"),
    (lambda x, i, c: x["manifests"].append(7), "2 bundles are listed"),
    (lambda x, i, c: x.update(manifests=[7]), "no valid 'mediaType'"),
    (lambda x, i, c: x["manifests"][0].update(size=True), "no valid 'size'"),
    (lambda x, i, c: x["manifests"][0].update(size=-1), "negative size"),
    (lambda x, i, c: x["manifests"][0].update(size=7), "at most 7 are read"),
    (lambda x, i, c: x["manifests"][0].update(size=10**12), "is said to have 1000000000000 bytes"),
    (lambda x, i, c: x["manifests"][0].update(size=10**5), "declared are 100000"),
    (lambda x, i, c: x["manifests"][0].update(digest="sha256:../../../etc/passwd"), "not a sha256"),
    (lambda x, i, c: x["manifests"][0].update(digest="sha512:" + "0" * 128), "not a sha256"),
    (lambda x, i, c: x["manifests"][0].update(digest=NOWHERE), "cannot be read"),
    (lambda x, i, c: x["manifests"][0].update(mediaType="text/plain"), "neither of an image"),
    (lambda x, i, c: i.pop("artifactType"), "no valid 'artifactType'"),
    (lambda x, i, c: i.update(artifactType="other"), "not a bundle of partitioner"),
    (lambda x, i, c: i.pop("config"), "no valid 'config'"),
    (lambda x, i, c: i["config"].update(mediaType="other"), "not of the type"),
    (lambda x, i, c: i["config"].update(digest=NOWHERE), "cannot be read"),
    (lambda x, i, c: i.update(layers=5), "no valid 'layers'"),
    (lambda x, i, c: i.update(layers=[5]), "no valid 'mediaType'"),
    (lambda x, i, c: i.update(layers=[]), "list different blobs"),
    (lambda x, i, c: i["layers"].reverse(), "list different blobs"),
    (lambda x, i, c: i["layers"][0].update(size=1), "list different blobs"),
    (lambda x, i, c: c.clear(), "schema_version"),
    (lambda x, i, c: c["blobs"][0].update(size=1), "of a blob of 1 bytes"),
    (lambda x, i, c: c.update(plan=5), "malformed manifest"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_malformed_documents(
    path: Path, change: Callable[[Any, Any, Any], Any], message: str
) -> None:
    rewrite(path, change)
    assert message in refused(lambda: Bundle.open(path)).what


def test_what_other_tools_add_is_let_be(path: Path) -> None:
    def annotate(index: Any, image: Any, config: Any) -> None:
        index["annotations"] = {"a": "b"}
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "v3"}

    rewrite(path, annotate)
    Bundle.open(path).check()


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_index_files_that_are_no_json(path: Path, name: str) -> None:
    for data in (b"", b"\xff", b"[" * 10**6, b"null", b'{"imageLayoutVersion":"2.0.0"}'):
        replace(path / name, data)
        refused(lambda: Bundle.open(path))


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_huge_index_files_are_not_read(path: Path, name: str) -> None:
    os.truncate(path / name, 2**40)
    assert "at most 1048576 are read" in refused(lambda: Bundle.open(path)).what


def test_a_manifest_that_was_changed(path: Path) -> None:
    for file in (path / "blobs" / "sha256").iterdir():
        data = file.read_bytes()
        if data.startswith(b"{"):
            replace(file, data.replace(b"sample", b"SAMPLE"))
    assert "its content was changed" in refused(lambda: Bundle.open(path)).what


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
