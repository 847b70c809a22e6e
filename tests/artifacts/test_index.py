"""Bundles of several members: written, opened, chosen from, and refused where they are hostile."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes, hex_of
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.oci import (
    IMAGE_TYPE,
    INDEX_TYPE,
    Member,
    label_text,
    read_root,
    write_members,
)
from partitioner.errors import BundleError, UsageError
from tests.artifacts.samples import several, write_bundle, write_several

BUCKETS = Path(__file__).parent / "data" / "golden" / "1.4-batches"
IMAGE = Blob(digest_bytes(b"i"), 7, IMAGE_TYPE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_several(tmp_path / "several.bundle")
    return tmp_path / "several.bundle"


def test_both_ways() -> None:
    members = (
        Member(IMAGE, {"target": "xeon", "batch": "4"}, "x86_64"),
        Member(Blob(digest_bytes(b"j"), 8, IMAGE_TYPE), {"target": "cpu"}),
    )
    data = write_members(members)
    root = Blob(digest_bytes(data), len(data), INDEX_TYPE)
    assert (root, members) == read_root(root, data)
    assert (root, members) == read_root(dataclasses.replace(root, media_type=""), data)


def test_the_fields_that_the_specification_demands() -> None:
    members = (Member(IMAGE, {"target": "xeon", "batch": "4"}, "AMD64"), Member(IMAGE, {}, "riscv"))
    index = json.loads(write_members(members))
    assert (2, INDEX_TYPE) == (index["schemaVersion"], index["mediaType"])
    one, other = index["manifests"]
    assert {"dev.partitioner.target": "xeon", "dev.partitioner.batch": "4"} == one["annotations"]
    assert {"architecture": "amd64", "os": "linux"} == one["platform"]
    assert "platform" not in other


def test_labels_as_text() -> None:
    assert "target=cpu,batch=4,size=9" == label_text({"batch": "4", "size": "9", "target": "cpu"})


def test_members(path: Path) -> None:
    index = BundleIndex.open(path)
    assert ["xeon", "cpu", "cpu"] == [member.labels["target"] for member in index.members]
    assert index.members == index.here == index.matching()
    for member in index.members:
        bundle = index.bundle(member)
        assert member.labels == bundle.labels
        assert member.labels["target"] == bundle.manifest.target
        assert index.digest == bundle.digest
        assert bundle is index.bundle(member)
    index.check()


def test_one_member_is_an_index_of_one(tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "b")
    index = BundleIndex.open(tmp_path / "b")
    assert digest == index.digest == index.members[0].image.digest
    assert [{"target": "cpu"}] == [member.labels for member in index.members]
    assert Bundle.open(tmp_path / "b").closure == index.closure()


def test_a_single_member_is_written_as_ever(tmp_path: Path) -> None:
    """What one target gives alone is, bit by bit, what it gives beside others."""
    alone = write_bundle(tmp_path / "alone", several()[0][0])
    write_several(tmp_path / "several")
    assert alone == BundleIndex.open(tmp_path / "several").members[0].image.digest


def test_writing_twice_gives_the_same_digest(path: Path, tmp_path: Path) -> None:
    assert BundleIndex.open(path).digest == write_several(tmp_path / "again")


def test_blobs_are_there_once(path: Path) -> None:
    index = BundleIndex.open(path)
    closure = index.closure()
    assert len(closure) == len({blob.digest for blob in closure})
    files = sorted(entry.name for entry in (path / "blobs" / "sha256").iterdir())
    assert files == sorted(hex_of(blob.digest) for blob in closure)
    assert index.root == closure[-1]


def test_choosing(path: Path) -> None:
    index = BundleIndex.open(path)
    assert "xeon" == index.only({"target": "xeon"}).manifest.target
    assert {"target": "cpu", "batch": "4"} == index.only({"batch": "4"}).labels
    assert 2 == len(index.matching({"target": "cpu"}))
    assert {"target": "cpu", "batch": "1"} == index.smallest({"target": "cpu"}).labels
    assert {"target": "cpu", "batch": "4"} == index.smallest({"batch": "4"}).labels
    assert "xeon" == Bundle.open(path, wanted={"target": "xeon"}).manifest.target


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (None, "several members: target=xeon; target=cpu,batch=1; target=cpu,batch=4"),
        ({"target": "cpu"}, "several members: target=cpu,batch=1"),
        ({"target": "tpu"}, "no member target=tpu; it has target=xeon"),
        ({"steps": "20"}, "no member steps=20"),
    ],
)
def test_choices_that_cannot_be_meant(
    path: Path, wanted: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Bundle.open(path, wanted=wanted)


def test_a_size_that_has_no_bucket_is_no_target(path: Path) -> None:
    with pytest.raises(UsageError, match="no member batch=3") as caught:
        Bundle.open(path, wanted={"batch": "3"})
    assert str(caught.value.advice).startswith("leave it out")


def test_a_copy_without_some_members(path: Path) -> None:
    digest = BundleIndex.open(path).digest
    xeon, *others = BundleIndex.open(path).members
    hide(path, others[0])
    index = BundleIndex.open(path)
    assert (digest, (xeon, others[1])) == (index.digest, index.here)
    index.check()
    with pytest.raises(UsageError, match="batch=1 was left out of this copy"):
        index.matching({"batch": "1"})
    with pytest.raises(UsageError, match="members were left out of this copy: target=cpu,batch=1"):
        index.closure()
    for member in (xeon, others[1]):
        hide(path, member)
    with pytest.raises(BundleError, match="manifests of all members are missing"):
        BundleIndex.open(path).matching()


def hide(path: Path, member: Member) -> None:
    (path / "blobs" / "sha256" / hex_of(member.image.digest)).unlink()


# --- hostile ------------------------------------------------------------------------------------


def label(row: dict[str, Any], name: str, value: Any) -> None:
    row["annotations"][f"dev.partitioner.{name}"] = value


HOSTILE: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: x.update(mediaType="text/plain"), "not of the type"),
    (lambda x: x.update(mediaType=IMAGE_TYPE), "not of the type"),
    (lambda x: x.update(config={}), "an index and an image manifest at once"),
    (lambda x: x.update(artifactType="a/b"), "not a bundle of partitioner"),
    (lambda x: x.update(manifests=[]), "0 members"),
    (lambda x: x.update(manifests=x["manifests"] * 200), "600 members"),
    (lambda x: x["manifests"].append(x["manifests"][0]), "two members have the same labels"),
    (lambda x: x["manifests"][0].update(mediaType=INDEX_TYPE), "not of the type"),
    (lambda x: x["manifests"][0].pop("annotations"), "no valid 'annotations'"),
    (lambda x: label(x["manifests"][0], "target", 3), "malformed label 'target'"),
    (lambda x: label(x["manifests"][0], "target", "../x"), "malformed name"),
    (lambda x: label(x["manifests"][0], "Upper", "x"), "malformed label 'Upper'"),
    (lambda x: label(x["manifests"][0], "target", "tpu"), "for another target than its manifest"),
    (lambda x: x["manifests"][0]["annotations"].clear(), "does not say for which target"),
    (lambda x: x["manifests"][0].update(digest="sha256:xyz"), "digest"),
    (lambda x: x["manifests"][0].update(size=1), "at most 1 are read"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_hostile_indexes(path: Path, change: Callable[[Any], Any], message: str) -> None:
    rewrite(path, change)
    with pytest.raises(BundleError, match=message):
        BundleIndex.open(path).check()


def test_a_bucket_without_its_label(tmp_path: Path) -> None:
    shutil.copytree(BUCKETS, tmp_path / "b")
    rewrite(
        tmp_path / "b", lambda x: x["manifests"][-1]["annotations"].pop("dev.partitioner.batch")
    )
    with pytest.raises(BundleError, match="for another batch than its manifest"):
        BundleIndex.open(tmp_path / "b").check()


def test_annotations_of_other_tools_are_let_be(path: Path) -> None:
    rewrite(path, lambda x: x["manifests"][0]["annotations"].update({"org.example.note": "x"}))
    assert {"target": "xeon"} == BundleIndex.open(path).members[0].labels


@pytest.mark.parametrize("platform", [3, {}, {"architecture": 3}, {"architecture": "moon"}])
def test_platforms_of_other_tools_are_let_be(path: Path, platform: Any) -> None:
    rewrite(path, lambda x: x["manifests"][0].update(platform=platform))
    assert ["", "x86_64", "x86_64"] == [m.machine for m in BundleIndex.open(path).members]


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the image index, and let ``index.json`` name the new one."""
    outer = json.loads((path / "index.json").read_bytes())
    entry = outer["manifests"][0]
    folder = path / "blobs" / "sha256"
    inner = json.loads((folder / hex_of(entry["digest"])).read_bytes())
    change(inner)
    data = dumps(inner)
    entry.update(digest=digest_bytes(data), size=len(data))
    (folder / hex_of(entry["digest"])).write_bytes(data)
    (path / "index.json").write_bytes(dumps(outer))
