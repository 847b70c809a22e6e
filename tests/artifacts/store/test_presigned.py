"""Bundles by presigned addresses: read without credentials, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.options import DEFAULT_OPTIONS
from partitioner.artifacts.store.presigned import open_presigned, presign
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.sources import is_source
from partitioner.errors import BundleError, NotInStoreError, StoreError, UsageError


def test_pull_without_credentials(
    s3_uri: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_uri)
    done = push(bundle, store, tag="t")
    path = tmp_path / "a.urls.json"
    path.write_bytes(presign(store, parse_reference(f"{s3_uri}/sample@t"), 600))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    assert is_source(path)
    web, reference = open_presigned(path, DEFAULT_OPTIONS)
    pulled = pull(web, reference, tmp_path / "out", cache=Cache())
    assert done.digest == pulled.digest
    Bundle.open(pulled.path).check()
    assert web.get("refs/sample/channels/t.json", 100) is None


def test_what_cannot_be_shared(s3_uri: str, bundle: Path, tmp_path: Path) -> None:
    store = open_store(s3_uri)
    with pytest.raises(NotInStoreError):
        presign(store, parse_reference(f"{s3_uri}/sample@t"), 600)
    with pytest.raises(UsageError):
        presign(store, parse_reference(f"{s3_uri}/sample@sha256:{'0' * 64}"), 600)
    local = open_store((tmp_path / "store").as_uri())
    push(bundle, local, tag="t")
    with pytest.raises(StoreError, match="s3:// only"):
        presign(local, parse_reference(f"{local.uri}/sample@t"), 600)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"schema":2,"name":"a","version":"1","urls":{}}',
        b'{"schema":1,"name":"a","version":"1","urls":[]}',
        b'{"schema":1,"name":1,"version":"1","urls":{}}',
        b'{"schema":1,"name":"../a","version":"1","urls":{}}',
        b'{"schema":1,"name":"a","version":"1","urls":{"k":"file:///etc/passwd"}}',
    ],
)
def test_malformed_documents(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.urls.json"
    path.write_bytes(text)
    with pytest.raises((BundleError, UsageError)):
        open_presigned(path, DEFAULT_OPTIONS)
