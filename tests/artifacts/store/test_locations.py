"""Addresses of stores and bundles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.artifacts.store.layout import split_ref_key, version_key
from partitioner.artifacts.store.locations import (
    Reference,
    is_remote,
    local_path,
    open_store,
    parse_reference,
)
from partitioner.errors import UsageError

HEX = "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/p/name@v3", Reference("s3://b/p", "name", "v3")),
        ("s3://b/name", Reference("s3://b", "name", "latest")),
        ("s3://b/p/name@", Reference("s3://b/p", "name", "latest")),
        ("file:///a/b/name@1.2", Reference("file:///a/b", "name", "1.2")),
        ("https://h:1/p/name@v3/", Reference("https://h:1/p", "name", "v3")),
        (f"s3://b/name@sha256:{HEX}", Reference("s3://b", "name", f"sha256:{HEX}")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert expected == parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "name@v3",
        "s3://b/..@v3",
        "s3://b/a b@v3",
        "s3://b/name@v3@v4",
        "s3://b/name@sha256:00",
        f"s3://b/name@sha512:{HEX}",
        "s3://",
        "",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///p",
        "s3://b/../p",
        "s3://b/p//q",
        "s3://b?x=1",
        "s3://user@b/p",
        "ftp://h/p",
        "file://host/p",
        "https://",
        "/path",
        "https://user:secret@h/p",
        "https://h/p#x",
    ],
)
def test_what_is_no_store(text: str) -> None:
    with pytest.raises(UsageError):
        open_store(text)


def test_paths_and_addresses(tmp_path: Path) -> None:
    assert not is_remote(tmp_path)
    assert not is_remote("my.bundle")
    assert is_remote("s3://b/name")
    assert is_remote(f"{tmp_path.as_uri()}/name@v1")
    (tmp_path / "x y").mkdir()
    (tmp_path / "x y/oci-layout").touch()
    assert not is_remote((tmp_path / "x y").as_uri())
    assert tmp_path / "x y" == local_path((tmp_path / "x y").as_uri())


@given(st.text())
def test_no_name_leaves_its_folder(text: str) -> None:
    try:
        key = version_key("name", text)
    except UsageError:
        return
    assert ("name", "versions", text) == split_ref_key(key)
    assert ".." not in key.split("/")


def test_no_client_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from partitioner.artifacts.store.locations import open_store;"
        "import partitioner.runtime;"
        "open_store('file:///tmp/none'); open_store('https://127.0.0.1/none');"
        "print([m for m in ('boto3', 'botocore', 'model_signing', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
