"""Manifests: both ways, versions, and a bundle's manifest kept from each version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts import manifest as module
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, SCHEMA_VERSION, Manifest
from partitioner.errors import BundleError, IncompatibleBundleError
from tests.artifacts.samples import GRAPH, manifest

DATA = Path(__file__).parent / "data"


def document(**changes: Any) -> bytes:
    return json.dumps({**json.loads(manifest().to_json()), **changes}).encode()


def test_both_ways() -> None:
    expected = manifest()
    actual = Manifest.from_json(expected.to_json())
    assert expected == actual
    assert list(expected.outputs) == list(actual.outputs)
    assert list(expected.plan.segments) == list(actual.plan.segments)


def test_equal_manifests_give_equal_bytes() -> None:
    one = manifest()
    other = one.replace(
        artifacts=dict(reversed(one.artifacts.items())),
        constants=dict(reversed(one.constants.items())),
        plan=dataclasses.replace(one.plan, values=dict(reversed(one.plan.values.items()))),
        options=dict(reversed(one.options.items())),
    )
    assert one == other
    assert one.to_json() == other.to_json()


def test_the_order_of_outputs_counts() -> None:
    one = manifest()
    turned = dict(reversed(one.outputs.items()))
    plan = dataclasses.replace(one.plan, outputs=dict(reversed(one.plan.outputs.items())))
    assert one.to_json() != one.replace(outputs=turned, plan=plan).to_json()


def test_any_spelling_is_read_and_the_canonical_one_written() -> None:
    spelled = json.dumps(json.loads(manifest().to_json()), indent=3, ensure_ascii=True).encode()
    assert manifest().to_json() == Manifest.from_json(spelled).to_json()


@pytest.mark.parametrize("path", sorted(DATA.glob("manifest-*.json")), ids=lambda path: path.stem)
def test_manifests_of_all_versions_are_read(path: Path) -> None:
    """These files are never changed: bundles like them are out there."""
    data = path.read_bytes()
    found = Manifest.from_json(data)
    assert path.stem == f"manifest-{found.schema_version}"
    if found.schema_version == SCHEMA_VERSION:
        assert data == found.to_json()


def test_the_present_version_is_kept() -> None:
    assert (DATA / f"manifest-{SCHEMA_VERSION}.json").exists()
    assert SCHEMA_VERSION == json.loads(manifest().to_json())["schema_version"]


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("2.0", "install a newer partitioner"),
        ("99999.3", "newer"),
        ("0.9", "build the bundle anew"),
    ],
)
def test_other_major_versions_are_incompatible(version: str, advice: str) -> None:
    with pytest.raises(
        IncompatibleBundleError, match=f"schema version {version}; .*reads 1.0"
    ) as c:
        Manifest.from_json(json.dumps({"schema_version": version, "what": "ever"}).encode())
    assert advice in (c.value.advice or "")


def test_older_minor_versions_than_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READABLE", (1, 2))
    with pytest.raises(IncompatibleBundleError, match=r"reads 1\.2 and later"):
        Manifest.from_json(document(schema_version="1.1"))


def test_unknown_keys_are_passed_over_in_newer_minor_versions_only() -> None:
    found = Manifest.from_json(document(schema_version="1.9", novelty={"a": 1}))
    assert manifest().replace(schema_version="1.9") == found
    with pytest.raises(BundleError, match="unknown keys: 'novelty'") as caught:
        Manifest.from_json(document(novelty={"a": 1}))
    assert "$" == caught.value.where
    assert not isinstance(caught.value, IncompatibleBundleError)


def test_newer_minor_versions_are_checked_all_the_same() -> None:
    with pytest.raises(BundleError, match="the plan's outputs"):
        Manifest.from_json(document(schema_version="1.7", outputs=[]))


@pytest.mark.parametrize(
    "version",
    [
        None,
        1,
        1.0,
        "",
        "1",
        "1.0.0",
        "1.-1",
        "01.0",
        "1.00",
        "1.٣",
        "1.999999",
        " 1.0",
        "1.0\n",
        [],
    ],
)
def test_malformed_versions(version: Any) -> None:
    with pytest.raises(BundleError, match="schema_version") as caught:
        Manifest.from_json(document(schema_version=version))
    assert not isinstance(caught.value, IncompatibleBundleError)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"1.0"', b"1"])
def test_not_an_object(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a JSON object"):
        Manifest.from_json(data)


def test_too_large() -> None:
    with pytest.raises(BundleError, match="at most 67108864 are read"):
        Manifest.from_json(b" " * (MAX_MANIFEST_BYTES + 1))


# --- access -------------------------------------------------------------------------------------


def test_blobs_by_digest() -> None:
    found = manifest()
    assert len(GRAPH) == found.blob(found.artifacts["encode"].graph or "").size
    with pytest.raises(BundleError, match="is not declared"):
        found.blob("sha256:" + "0" * 64)
