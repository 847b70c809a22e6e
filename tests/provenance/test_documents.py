"""The bill of materials and the statement of provenance: valid, complete, always the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor_pb2 import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from torch import nn

from partitioner.artifacts.attestations import PROVENANCE_TYPE, SBOM_TYPE, read_attestation
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes, hex_of
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import BundleError
from partitioner.provenance import attested, distributions
from partitioner.provenance.distributions import Distribution, packages_of, used
from partitioner.provenance.sbom import write_sbom
from partitioner.provenance.source import Source
from partitioner.provenance.statement import write_statement
from tests.artifacts.samples import BLOBS, GRAPH, WEIGHTS, manifest, write_bundle

SOURCE = Source("models/model.py", digest_bytes(b"source"), "0" * 40, dirty=True)
ROWS = [
    Distribution("numpy", "2.4.6", "BSD-3-Clause AND MIT", runs=True),
    Distribution("python", "3.11.7", "PSF-2.0", runs=True),
    Distribution("Some_Package", "1.0+cpu", "a licence of our own"),
]


def sbom(source: Source | None = SOURCE) -> Any:
    return json.loads(write_sbom(manifest(), source, ROWS))


def statement(source: Source | None = SOURCE) -> Any:
    return json.loads(write_statement(manifest(), source, ROWS))


# --- bill of materials --------------------------------------------------------------------------


@pytest.mark.parametrize("source", [SOURCE, None, Source("model.py", digest_bytes(b""))])
def test_the_official_schema(source: Source | None) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(sbom(source))) is None


def test_each_blob_is_a_component_with_its_hash() -> None:
    components = {row["bom-ref"]: row for row in sbom()["components"]}
    for blob in manifest().blobs:
        row = components[blob.digest]
        assert [{"alg": "SHA-256", "content": hex_of(blob.digest)}] == row["hashes"]
        properties = {item["name"]: item["value"] for item in row["properties"]}
        assert {
            "partitioner:media-type": blob.media_type,
            "partitioner:size": str(blob.size),
        } == properties
    assert "read by encode, step" == components[digest_bytes(GRAPH)]["description"]
    assert "read by encode" == components[digest_bytes(WEIGHTS)]["description"]


def test_distributions_have_licences_and_scopes() -> None:
    rows = {row["name"]: row for row in sbom()["components"]}
    assert ("required", "library") == (rows["numpy"]["scope"], rows["numpy"]["type"])
    assert [{"expression": "BSD-3-Clause AND MIT"}] == rows["numpy"]["licenses"]
    assert "platform" == rows["python"]["type"]
    assert "excluded" == rows["Some_Package"]["scope"]
    assert [{"license": {"name": "a licence of our own"}}] == rows["Some_Package"]["licenses"]
    assert "pkg:pypi/some-package@1.0%2Bcpu" == rows["Some_Package"]["purl"]


def test_the_bundle_and_its_revision() -> None:
    about = sbom()["metadata"]["component"]
    assert ("sample", "1.2", "machine-learning-model") == (
        about["name"],
        about["version"],
        about["type"],
    )
    assert [{"uid": "0" * 40}] == about["pedigree"]["commits"]
    assert "with changes that were not committed" == about["pedigree"]["notes"]
    assert "pedigree" not in sbom(None)["metadata"]["component"]


# --- provenance ---------------------------------------------------------------------------------


def test_the_form_of_in_toto() -> None:
    # The messages of in-toto's own library take the keys that they know and no others.
    found = statement()
    subjects = [ParseDict(row, ResourceDescriptor()) for row in found["subject"]]
    Statement(subjects, found["predicateType"], found["predicate"]).validate()
    assert "https://in-toto.io/Statement/v1" == found["_type"]
    ParseDict(found["predicate"], Provenance())


def test_the_form_of_slsa() -> None:
    found = statement()
    assert "https://slsa.dev/provenance/v1" == found["predicateType"]
    definition, details = (found["predicate"][k] for k in ("buildDefinition", "runDetails"))
    keys = {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert keys == definition.keys()
    for uri in (definition["buildType"], details["builder"]["id"]):
        assert re.fullmatch(r"[a-z]+:\S+", uri)
    for row in definition["resolvedDependencies"]:
        assert row.keys() & {"uri", "digest", "content"}
    assert {"partitioner": "0.1.0", "python": "3.11.7"} == details["builder"]["version"]


def test_subjects_are_all_blobs() -> None:
    expected = {digest_bytes(data) for data in BLOBS}
    assert expected == {f"sha256:{row['digest']['sha256']}" for row in statement()["subject"]}


def test_parameters_and_materials() -> None:
    definition = statement()["predicate"]["buildDefinition"]
    parameters = definition["externalParameters"]
    assert manifest().options == parameters["options"]
    assert [{"steps": 6}, {"steps": 3}] == parameters["variants"]
    revision, file, *others = definition["resolvedDependencies"]
    assert {"gitCommit": "0" * 40} == revision["digest"]
    assert {"dirty": True} == revision["annotations"]
    assert "models/model.py" == file["name"]
    assert "pkg:generic/python@3.11.7" in {row["uri"] for row in others}
    without = statement(Source("a/b.py", digest_bytes(b"")))["predicate"]["buildDefinition"]
    assert "a/b.py" == without["resolvedDependencies"][0]["name"]


def test_a_platform_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_BUILDER_ID", "https://ci.example.com/builds")
    builder = statement()["predicate"]["runDetails"]["builder"]
    assert "https://ci.example.com/builds" == builder["id"]


def test_nothing_tells_when_or_where() -> None:
    for document in (write_sbom, write_statement):
        first, second = (document(manifest(), SOURCE, ROWS) for _ in range(2))
        assert first == second
        assert dumps(json.loads(first)) == first
        for word in (b"timestamp", b"serialNumber", b"startedOn", str(Path.cwd()).encode()):
            assert word not in first


# --- distributions ------------------------------------------------------------------------------


def test_what_was_used() -> None:
    rows = {row.name: row for row in used({"torch": "2.13.0"}, ["onnx"], ["pytest"])}
    assert {"numpy", "onnxruntime", "partitioner", "pytest", "torch"} == rows.keys()
    running = {name for name, row in rows.items() if row.runs}
    assert {"numpy", "onnxruntime", "partitioner"} == running
    assert "2.13.0" == rows["torch"].version
    assert "Apache-2.0" == rows["partitioner"].licence
    assert "MIT" in rows["onnxruntime"].licence
    assert used({}, [], ["no-such-distribution"]) == used({}, [], [])


def test_where_classes_are_from() -> None:
    own = type("Own", (), {})
    assert {"torch"} == packages_of([nn.Linear, nn.Conv2d, object, own])


def test_a_folder_that_hides_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tests": ["pytest"], "torch": ["torch"]}
    monkeypatch.setattr(distributions, "_by_module", lambda: known)
    assert {"torch"} == packages_of([nn.Linear, type("Own", (), {"__module__": __name__})])


# --- in a bundle --------------------------------------------------------------------------------


def test_written_and_read(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        full = attested(manifest(), writer, [nn.Linear], Path(__file__))
        writer.commit(full)
    bundle = Bundle.open(tmp_path / "b")
    types = {blob.media_type for blob in bundle.manifest.blobs}
    assert types >= {SBOM_TYPE, PROVENANCE_TYPE}
    assert "CycloneDX" == read_attestation(bundle, "sbom")["bomFormat"]
    assert len(BLOBS) == len(read_attestation(bundle, "provenance")["subject"])
    assert manifest().report.items() < bundle.manifest.report.items()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, "has no sbom"),
        ([], "has no sbom"),
        ({"provenance": digest_bytes(GRAPH)}, "has no sbom"),
        ({"sbom": 5}, "names no digest"),
        ({"sbom": "../../etc/passwd"}, "not declared"),
        ({"sbom": digest_bytes(GRAPH)}, "not of the type"),
    ],
)
def test_what_a_report_may_say(tmp_path: Path, named: Any, message: str) -> None:
    write_bundle(tmp_path / "b", manifest().replace(report={"attestations": named}))
    with pytest.raises(BundleError, match=message) as caught:
        read_attestation(Bundle.open(tmp_path / "b"), "sbom")
    assert caught.value.advice


def test_a_document_that_is_none(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        wrong = writer.add_bytes(b"{", SBOM_TYPE)
        blobs = tuple(writer.blobs[digest] for digest in sorted(writer.blobs))
        report = {"attestations": {"sbom": wrong.digest}}
        writer.commit(manifest().replace(blobs=blobs, report=report))
    with pytest.raises(BundleError, match="sbom"):
        read_attestation(Bundle.open(tmp_path / "b"), "sbom")
