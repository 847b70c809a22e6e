"""Bundles whose index, OCI manifest or config is damaged, or made by an enemy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from tests.artifacts.damage import NOWHERE, refused, replace, rewrite

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
