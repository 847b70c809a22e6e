"""What a replica asks for, by a bundle's manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Artifact, Manifest
from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.buffers import measure
from partitioner.errors import UsageError
from partitioner.serve.placing import Needs, look_up, needs_of
from tests.serve.scaled import make_scaled

GIB = 2**30


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scaled(tmp_path_factory.mktemp("placing") / "bundle", 2.0)


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    index = BundleIndex.open(bundle)
    return index.bundle(index.members[0]).manifest


def test_a_tag_is_looked_up_once(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    store = (tmp_path / "store").as_uri()
    digest = push(bundle, open_store(store), name="m", tag="live").digest
    served = look_up(f"{store}/m@live")
    assert f"{store}/m@{digest}" == served.uri
    assert "hand-made" == served.name
    assert 1.0 == served.needs.cpus
    assert str(bundle) == look_up(bundle).uri


def test_memory_is_of_weights_and_of_runs(manifest: Manifest) -> None:
    weights = tuple(replace(blob, size=GIB) for blob in manifest.blobs)
    large = manifest.replace(blobs=weights, memory=measure(manifest.plan))
    one = needs_of([large], threads=4, memory="fast", workers=1)
    low = needs_of([large], threads=4, memory="low", workers=1)
    assert 4.0 == one.cpus
    assert one.memory_bytes - low.memory_bytes == len(weights) * GIB // 2
    # Members of another target are other replicas: not added.
    other = large.replace(target="xeon")
    assert one == needs_of([large, other], threads=4, memory="fast", workers=1)


def test_neuron_segments_want_cores(manifest: Manifest) -> None:
    artifacts = {
        name: Artifact("neuron", one.graph, one.weights, one.options)
        for name, one in manifest.artifacts.items()
    }
    neuron = manifest.replace(target="inf2", artifacts=artifacts)
    found = needs_of([neuron], threads=1, memory="fast", workers=1)
    assert Needs(1.0, found.memory_bytes, len(artifacts)) == found
    with pytest.raises(UsageError, match="cpu, inf2") as caught:
        needs_of([manifest, neuron], threads=1, memory="fast", workers=1)
    assert "--variant target=" in str(caught.value.advice)
