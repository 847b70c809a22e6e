"""The verbs about stores, against real S3 requests: text, JSON, exit codes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts.samples import manifest, write_bundle
from tests.artifacts.store.servers import CREDENTIALS, moto_server
from tests.artifacts.test_signatures import new_keys
from tests.cli.verbs import partition


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket, to which s3:// leads in this module."""
    import boto3

    before = dict(os.environ)
    folder = tmp_path_factory.mktemp("s3")
    with moto_server(folder / "log") as endpoint:
        os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint)
        os.environ.update(PARTITIONER_CACHE=str(folder / "cache"), XDG_CONFIG_HOME=str(folder))
        boto3.client("s3").create_bucket(Bucket="models")
        yield "s3://models/prod"
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles")
    write_bundle(path / "one.bundle")
    write_bundle(path / "two.bundle", manifest().replace(version="2"))
    return path


def document(*arguments: str) -> Any:
    done = partition(*arguments, "--json")
    assert 0 == done.returncode, done.stdout
    return json.loads(done.stdout)


def error(code: int, *arguments: str) -> Any:
    done = partition(*arguments, "--json")
    assert code == done.returncode, done.stdout
    return json.loads(done.stdout)["error"]


def test_the_life_of_a_bundle(uri: str, folder: Path, tmp_path: Path) -> None:
    pushed = document("push", str(folder / "one.bundle"), uri, "--tag", "live")
    assert (f"{uri}/sample@live", 6) == (pushed["address"], pushed["sent"])
    text = partition("push", str(folder / "two.bundle"), uri, "--tag", "live").stdout
    assert "sent 2 blobs" in text
    listed = document("ls", uri)["refs"]
    assert [("live", "2"), ("1.2", "1.2"), ("2", "2")] == [
        (row["ref"], row["version"]) for row in listed
    ]
    assert "sample@live  -> 2" in partition("ls", uri).stdout
    pulled = document("pull", f"{uri}/sample@1.2", "-o", str(tmp_path / "out"))
    assert pushed["digest"] == pulled["digest"]
    assert pushed["digest"] == document("inspect", pulled["path"], "--check")["digest"]
    assert 12 == error(12, "pull", f"{uri}/sample@1.2", "-o", str(tmp_path / "out"))["exit_code"]
    assert "live points to" in error(22, "rm", f"{uri}/sample@2")["what"]
    error(2, "rm", f"{uri}/sample")
    document("rm", f"{uri}/sample@live")
    document("rm", f"{uri}/sample@2")
    assert "NotInStoreError" == error(21, "pull", f"{uri}/sample@live")["kind"]
    urls = str(tmp_path / "a.urls.json")
    assert urls == document("presign", f"{uri}/sample@1.2", "-o", urls)["path"]
    assert pushed["digest"] == document("pull", urls, "-o", str(tmp_path / "c"))["digest"]
    error(2, "presign", f"{uri}/sample@1.2", "-o", str(tmp_path / "a.json"))
    assert 8 == document("gc", uri)["kept"]
    time.sleep(1.1)  # S3 tells whole seconds.
    assert 2 == len(document("gc", uri, "--grace", "0", "--dry-run")["removed"])
    assert "removed 2 blobs" in partition("gc", uri, "--grace", "0").stdout
    document("pull", f"{uri}/sample@1.2", "-o", str(tmp_path / "again"))


def test_cache(uri: str, folder: Path, tmp_path: Path) -> None:
    document("push", str(folder / "one.bundle"), uri, "--name", "cached")
    document("pull", f"{uri}/cached@1.2", "-o", str(tmp_path / "out"))
    path = document("cache", "dir")["path"]
    assert os.environ["PARTITIONER_CACHE"] == path
    assert path == partition("cache", "dir").stdout.strip()
    assert document("cache", "ls")["size"] > 0
    assert "blobs" in partition("cache", "ls").stdout
    assert document("cache", "prune")["removed"]
    assert 0 == document("cache", "ls")["size"]


def test_signatures(uri: str, folder: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    _, other = new_keys(tmp_path, "other")
    write_bundle(tmp_path / "signed.bundle")
    path = str(tmp_path / "signed.bundle")
    assert "SignatureError" == error(23, "verify-signature", path, "--key", str(public))["kind"]
    assert 1 == document("sign", path, "--key", str(private))["signatures"]
    assert str(public) == document("verify-signature", path, "--key", str(public))["key"]
    error(23, "verify-signature", path, "--key", str(other))
    document("push", path, uri, "--name", "signed", "--tag", "t")
    address = f"{uri}/signed@t"
    error(23, "pull", address, "-o", str(tmp_path / "out"), "--require-signature", str(other))
    assert not (tmp_path / "out").exists()
    options = ("-o", str(tmp_path / "out"), "--require-signature", str(public))
    document("pull", address, *options)
    document("verify-signature", str(tmp_path / "out"), "--key", str(public))
    error(23, "run", path, "--require-signature", str(other))
    error(2, "sign", path, "--key", str(private), "--password-env", "NOT_THERE")


def test_encryption(uri: str, folder: Path) -> None:
    import boto3

    options = ("--name", "secret", "--sse", "aws:kms", "--kms-key", "alias/models")
    # Of another prefix, since a blob that is there is not sent again.
    pushed = document("push", str(folder / "one.bundle"), f"{uri}-kms", *options)
    key = f"prod-kms/blobs/sha256/{pushed['digest'].removeprefix('sha256:')}"
    found = boto3.client("s3").head_object(Bucket="models", Key=key)
    assert ("aws:kms", "alias/models") == (found["ServerSideEncryption"], found["SSEKMSKeyId"])
    error(2, "push", str(folder / "one.bundle"), uri, "--kms-key", "alias/models")


def test_what_cannot_be_meant(uri: str, folder: Path) -> None:
    bundle = str(folder / "one.bundle")
    for store in ("ftp://host/x", "s3://", "models", "s3://models/../x"):
        error(2, "push", bundle, store)
    error(2, "push", bundle, uri, "--tag", "../x")
    error(9, "push", str(folder), uri)
    assert "bucket" in error(21, "push", bundle, "s3://no-such-bucket/x")["what"]
    error(20, "ls", "https://127.0.0.1:9/x")
