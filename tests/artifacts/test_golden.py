"""Bundles of every released schema, as old versions wrote them: opened, verified and run for ever.

They were made by ``golden.py``, each by a version that wrote that schema, and are never changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import partitioner
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import SCHEMA_VERSION
from partitioner.errors import IncompatibleBundleError
from partitioner.runtime.verify import verify_bundle
from tests.artifacts.damage import rewrite
from tests.cli.test_schedules import partition

GOLDEN = Path(__file__).parent / "data" / "golden"
BUNDLES = sorted(GOLDEN.iterdir())
MINOR = int(SCHEMA_VERSION.partition(".")[2])


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """A copy of the present schema's, to be changed."""
    shutil.copytree(GOLDEN / SCHEMA_VERSION, tmp_path / "b")
    return tmp_path / "b"


def test_there_is_one_of_each_version() -> None:
    names = {path.name for path in BUNDLES}
    assert {f"1.{minor}" for minor in range(MINOR + 1)} <= names
    assert {f"1.{minor}-members" for minor in range(3, MINOR + 1)} <= names
    assert {f"1.{minor}-batches" for minor in range(4, MINOR + 1)} <= names


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_it_opens_verifies_and_runs(path: Path) -> None:
    version, _, several = path.name.partition("-")
    index = BundleIndex.open(path)
    for member in index.members:
        manifest = index.bundle(member).manifest
        assert (version, "golden") == (manifest.schema_version, manifest.name)
        # What came later has its default.
        assert (version >= "1.1") == bool(manifest.variants)
        assert (version >= "1.2") == (manifest.memory is not None)
        assert (version >= "1.3") == bool(manifest.requirements)
        assert (several == "batches") == (manifest.batch is not None)
    assert bool(several) == (len(index.members) > 1)
    report = verify_bundle(path)
    assert report.ok
    assert any(row.name.endswith("output state") for row in report.rows)
    with partitioner.load(path) as pipe:
        assert "cpu" == pipe.manifest.target
        state = pipe(x=np.zeros((1, 4), np.float32), seed=3)["state"]
    # The numbers of all versions are the same.
    np.testing.assert_allclose(state, _newest_state(), rtol=1e-5, atol=1e-6)


def _newest_state() -> np.ndarray[Any, Any]:
    with partitioner.load(GOLDEN / SCHEMA_VERSION) as pipe:
        return pipe(x=np.zeros((1, 4), np.float32), seed=3)["state"]


def test_a_newer_minor_version_passes_over_what_is_unknown(newest: Path) -> None:
    def change(_index: Any, _image: Any, config: Any) -> None:
        config["schema_version"] = f"1.{MINOR + 1}"
        config["novelty"] = {"what": ["ever"]}
        config["plan"]["novelty"] = 1
        config["artifacts"][next(iter(config["artifacts"]))]["novelty"] = None

    rewrite(newest, change)
    assert verify_bundle(newest).ok
    with pytest.raises(AttributeError):
        _ = BundleIndex.open(newest).only().manifest.novelty  # pyright: ignore[reportAttributeAccessIssue] unknown


@pytest.mark.parametrize("version", ["2.0", "3.17"])
def test_a_newer_major_version_is_refused_with_advice(newest: Path, version: str) -> None:
    def change(_index: Any, _image: Any, config: Any) -> None:
        config.clear()
        config["schema_version"] = version

    rewrite(newest, change)
    for verb in ("inspect", "verify", "run", "doctor"):
        done = partition(verb, str(newest), "--json")
        assert 10 == done.exit_code, done.output
    with pytest.raises(IncompatibleBundleError, match=f"schema version {version}") as caught:
        partitioner.load(newest)
    assert "install a newer partitioner" in (caught.value.advice or "")


def test_a_requirement_of_a_kind_that_is_not_known_is_unmet(newest: Path) -> None:
    rewrite(newest, _adding({"kind": "moon", "name": "full"}))
    with pytest.raises(IncompatibleBundleError, match="needs moon full") as caught:
        partitioner.load(newest)
    assert "install a newer partitioner" in (caught.value.advice or "")


def test_a_library_that_is_too_old_is_refused_before_a_loader_sees_it(newest: Path) -> None:
    rewrite(newest, _adding({"kind": "library", "name": "onnxruntime", "at_least": "999.1"}))
    for digest in _graphs(newest):
        # Any loader would stumble over it.
        (newest / "blobs" / "sha256" / digest).unlink()
    with pytest.raises(IncompatibleBundleError, match=r"onnxruntime >= 999\.1; .* installed") as c:
        partitioner.load(newest)
    assert "pip install 'onnxruntime>=999.1'" in (c.value.advice or "")


def _adding(requirement: dict[str, str]) -> Callable[[Any, Any, Any], None]:
    rest = {"at_least": "", "below": "", "firm": True, "reason": ""}

    def change(_index: Any, _image: Any, config: Any) -> None:
        config["requirements"].append({**rest, **requirement})

    return change


def _graphs(path: Path) -> set[str]:
    manifest = BundleIndex.open(path).only().manifest
    graphs = {artifact.graph for artifact in manifest.artifacts.values()}
    return {graph.removeprefix("sha256:") for graph in graphs if graph}


def test_the_document_of_a_doctor_is_json(newest: Path) -> None:
    members = json.loads(partition("doctor", str(newest), "--json").output)["members"]
    assert [[]] == [member["lacking"] for member in members]
