"""The same against SeaweedFS: it keeps objects on disk, and refuses what has another checksum."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.fetch import fetch
from partitioner.artifacts.store.gc import collect
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.artifacts.store.refs import remove
from partitioner.artifacts.store.s3 import S3Store
from partitioner.errors import ConflictError
from tests.artifacts.samples import manifest, write_bundle
from tests.artifacts.store.servers import seaweed_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed_server(tmp_path_factory.mktemp("seaweed")) as address:
        yield address


@pytest.fixture
def uri(endpoint: str, new_bucket: Callable[[str], str]) -> str:
    for left in reversed(range(30)):
        try:
            return new_bucket(endpoint)
        except (BotoCoreError, ClientError):
            # Its ports answer before it is ready.
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def test_the_life_of_a_bundle(uri: str, bundle: Path, tmp_path: Path) -> None:
    store = open_store(uri)
    assert 6 == push(bundle, store, tag="t").sent
    assert 0 == push(bundle, store, tag="t").sent
    write_bundle(tmp_path / "other", manifest().replace(target="xeon"))
    with pytest.raises(ConflictError):
        push(tmp_path / "other", store)
    push(tmp_path / "other", store, version="2")
    remove(store, parse_reference(f"{uri}/sample@2"))
    time.sleep(1.1)
    assert 2 == len(collect(store, grace=0).removed)
    pulled = pull(store, parse_reference(f"{uri}/sample@t"), tmp_path / "out", cache=Cache())
    Bundle.open(pulled.path).check()


def test_a_large_blob(uri: str, tmp_path: Path) -> None:
    data = os.urandom(40 * 2**20)
    (tmp_path / "blob").write_bytes(data)
    blob = Blob(digest_bytes(data), len(data), "")
    key = blob_key(blob.digest)
    store = open_store(uri)
    assert isinstance(store, S3Store)
    # A part that an earlier run has sent, and one of it that is wrong.
    where = store.where(key)
    upload = store.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    for number, part in ((1, data[: 16 * 2**20]), (2, bytes(16 * 2**20))):
        store.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
    assert store.upload_if_absent(tmp_path / "blob", blob, key, lambda count: None)
    assert not store.upload_if_absent(tmp_path / "blob", blob, key, lambda count: None)
    fetch(store, blob, tmp_path / "back", 4, lambda count: None)
    assert data == (tmp_path / "back").read_bytes()


def test_a_wrong_checksum_is_refused(uri: str) -> None:
    from botocore.exceptions import ClientError

    store = open_store(uri)
    assert isinstance(store, S3Store)
    checksum = base64.b64encode(bytes(32)).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        store.client.put_object(**store.where("a"), Body=b"a", ChecksumSHA256=checksum)
    assert store.head("a") is None
