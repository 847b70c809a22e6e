"""Damage to a bundle on disk, and how reading it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.digest import digest_bytes, hex_of
from partitioner.errors import BundleError
from tests.artifacts.samples import WEIGHTS

__all__ = ["NOWHERE", "blob", "blob_file", "put", "refused", "replace", "rewrite"]

NOWHERE = "sha256:" + "0" * 64


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
