"""Bundles loaded from stores: only what is needed is fetched, and checked before it is used."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.signatures import SIGNATURES_FILE
from partitioner.artifacts.store import remote
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.errors import BundleError, NotInStoreError, SignatureError
from partitioner.plan import Call
from partitioner.specs import InputSpec
from tests.artifacts.test_signatures import new_keys, sign
from tests.bundles import Maker, node, spec

ONE = np.ones((2,), np.float32)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PARTITIONER_POLICY", raising=False)
    monkeypatch.delenv("PARTITIONER_CACHE_LIMIT", raising=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """y = (x + one) ** 2, in two segments, and a blob that nothing runs on."""
    maker = Maker(tmp_path / "sum.bundle")
    maker.constant("one", ONE)
    maker.blob(b"for parity alone")
    both = {"a": "float32[2]", "b": "float32[2]"}
    maker.onnx("add", both, {"c": "float32[2]"}, [node("Add", ["a", "b"], ["c"])])
    maker.onnx("mul", both, {"c": "float32[2]"}, [node("Mul", ["a", "b"], ["c"])])
    steps = [Call("add", ("x", "one"), ("h",)), Call("mul", ("h", "h"), ("y",))]
    return maker.write([InputSpec("x", spec("float32[2]"))], steps, {"y": "y"})


@pytest.fixture
def address(bundle: Path, tmp_path: Path) -> str:
    store = open_store((tmp_path / "store").as_uri())
    name = push(bundle, store, tag="v3", name="sum").name
    return f"{store.uri}/{name}@v3"


def result(path: object, **options: Any) -> list[float]:
    with partitioner.load(path, **options) as pipe:  # type: ignore[arg-type]
        return pipe(x=ONE)["y"].tolist()


def test_load(address: str, bundle: Path) -> None:
    assert [4.0, 4.0] == result(address)
    assert [4.0, 4.0] == result(bundle.as_uri())
    for verify in ("always", "never"):
        assert [4.0, 4.0] == result(address, verify=verify)


def test_only_what_is_needed_is_fetched(address: str, bundle: Path) -> None:
    result(address)
    there = {row.digest for row in Cache().list()}
    opened = Bundle.open(bundle)
    unused = {blob.digest for blob in opened.closure} - there
    assert [b"for parity alone"] == [opened.read(digest) for digest in unused]


def test_loading_begins_before_all_has_arrived(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last blob is held back until the first has been asked for and had.
    had = threading.Event()
    real = Cache.ensure
    wait_for = remote.Fetcher.wait_for

    def ensure(self: Cache, store: Any, blob: Any, verify: Any, **options: Any) -> Path:
        if blob.size == ONE.nbytes:
            assert had.wait(30)
        return real(self, store, blob, verify, **options)

    def waited(self: Any, blob: Any) -> None:
        wait_for(self, blob)
        if "onnx" in blob.media_type:
            had.set()

    monkeypatch.setattr(Cache, "ensure", ensure)
    monkeypatch.setattr(remote.Fetcher, "wait_for", waited)
    assert [4.0, 4.0] == result(address)


def test_a_blob_that_is_missing(address: str, bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    graph = manifest.artifacts["mul"].graph
    assert graph is not None
    open_store((tmp_path / "store").as_uri()).delete(blob_key(graph))
    with pytest.raises(NotInStoreError):
        partitioner.load(address)


def test_a_changed_blob_never_reaches_a_loader(address: str, bundle: Path, tmp_path: Path) -> None:
    result(address)
    blobs = Bundle.open(bundle).manifest.blobs
    store = open_store((tmp_path / "store").as_uri())
    for blob in blobs:
        store.delete(blob_key(blob.digest))
        store.put_if_absent(blob_key(blob.digest), b"\0" * blob.size)
        path = Cache().path(blob.digest)
        if path.exists():
            path.chmod(0o644)
            path.write_bytes(b"\0" * blob.size)
    with pytest.raises(BundleError, match="other content"):
        partitioner.load(address)


@pytest.fixture
def signed(bundle: Path, tmp_path: Path) -> tuple[str, Path, Path]:
    """A signed bundle in a store, the key, and another key."""
    private, public = new_keys(tmp_path, "release")
    _, other = new_keys(tmp_path, "other")
    sign(bundle, private)
    store = open_store((tmp_path / "signed").as_uri())
    push(bundle, store, tag="v3", name="sum")
    return f"{store.uri}/sum@v3", public, other


def test_required_signatures(signed: tuple[str, Path, Path], bundle: Path) -> None:
    address, public, other = signed
    for path in (address, bundle):
        assert [4.0, 4.0] == result(path, require_signature=public)
        assert [4.0, 4.0] == result(path, require_signature=[other, public])
        with pytest.raises(SignatureError):
            partitioner.load(path, require_signature=other)
    (bundle / SIGNATURES_FILE).unlink()
    with pytest.raises(SignatureError, match="no signature"):
        partitioner.load(bundle, require_signature=public)


def test_a_policy_holds_wherever_it_matches(
    signed: tuple[str, Path, Path], bundle: Path, tmp_path: Path
) -> None:
    address, public, other = signed
    folder = tmp_path / "config" / "partitioner"
    folder.mkdir(parents=True)
    rule = '[[require]]\nmatch = "*"\nkeys = ["{}"]\n'
    (folder / "policy.toml").write_text(rule.format(public))
    assert [4.0, 4.0] == result(address)
    assert [4.0, 4.0] == result(bundle)
    (folder / "policy.toml").write_text(rule.format(other))
    for path in (address, bundle, bundle.as_uri()):
        with pytest.raises(SignatureError):
            partitioner.load(path)
        with pytest.raises(SignatureError):
            partitioner.load(path, require_signature=public)
