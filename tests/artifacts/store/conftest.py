"""One S3 server for all tests of stores, and a bucket, folder and cache for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.locations import open_store
from tests.artifacts.samples import write_bundle
from tests.artifacts.store.servers import CREDENTIALS, moto_server


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as address:
        yield address


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and a cache and configuration of the test's own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    for name in ("PARTITIONER_CACHE_LIMIT", "PARTITIONER_POLICY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def new_bucket(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a bucket at an endpoint, to which s3:// leads from now on. Gives a prefix in it."""

    def make(endpoint: str) -> str:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        store: Any = open_store(f"s3://{name}/models")
        store.client.create_bucket(Bucket=name)
        return store.uri

    return make


@pytest.fixture
def s3_uri(request: pytest.FixtureRequest, new_bucket: Callable[[str], str]) -> str:
    return new_bucket(request.getfixturevalue("s3_endpoint"))


@pytest.fixture(params=["file", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind that can be written to."""
    if request.param == "file":
        return (tmp_path / "store").as_uri()
    return request.getfixturevalue("s3_uri")


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle with blobs of every kind."""
    path = tmp_path / "sample.bundle"
    write_bundle(path)
    return path


def keys_of(store: Store, prefix: str = "") -> list[str]:
    folders: Any = (prefix,) if prefix else ("blobs/", "refs/", "signatures/", "writers/", "gc/")
    return sorted(entry.key for folder in folders for entry in store.list(folder))
