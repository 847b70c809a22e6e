"""Verifying a bundle: each member by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import IncompatibleBundleError
from partitioner.runtime.verify import verify_bundle

GOLDEN = Path(__file__).parents[1] / "artifacts" / "data" / "golden" / "1.4"


def test_a_member_whose_labels_another_has_too_is_run_itself(tmp_path: Path) -> None:
    """The second member cannot be loaded; the first has its labels, and one more."""
    opened = Bundle.open(GOLDEN)
    manifest = opened.manifest
    name, artifact = next(iter(manifest.artifacts.items()))
    broken = dataclasses.replace(artifact, options={**artifact.options, "unheard-of": 1})
    members = (
        ({"target": "cpu", "size": "9"}, manifest),
        ({"target": "cpu"}, manifest.replace(artifacts={**manifest.artifacts, name: broken})),
    )
    with BundleWriter(tmp_path / "b") as writer:
        for labels, own in members:
            for blob in own.blobs:
                writer.add_bytes(opened.read(blob.digest), blob.media_type)
            writer.add_member(own, labels)
        writer.publish()
    assert verify_bundle(tmp_path / "b", variant={"size": "9"}).ok
    with pytest.raises(IncompatibleBundleError, match="unheard-of"):
        verify_bundle(tmp_path / "b")
