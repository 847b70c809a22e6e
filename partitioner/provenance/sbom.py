"""The software bill of materials of a bundle, in CycloneDX 1.6 (ECMA-424), by its own library.

The bundle is the component that the document is about. Its blobs are components with their hashes;
distributions are, too: what running needs as ``required``, what only building needed as
``excluded``, which is CycloneDX's word for what is not part of a delivery.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cyclonedx.model
import cyclonedx.model.bom
import cyclonedx.model.component
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.output.json import JsonV1Dot6

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Blob, Manifest
from partitioner.artifacts.oci import BLOBS
from partitioner.provenance.distributions import Distribution
from partitioner.provenance.source import Source

__all__ = ["write_sbom"]

# The library's decorators hide the types of its classes.
_model: Any = cyclonedx.model
_bom: Any = cyclonedx.model.bom
_component: Any = cyclonedx.model.component
_Type: Any = _component.ComponentType
_Scope: Any = _component.ComponentScope


def write_sbom(
    manifest: Manifest, source: Source | None, distributions: Sequence[Distribution]
) -> bytes:
    """The document as canonical JSON: no serial number and no time, for both would differ."""
    bundle = _bundle(manifest, source)
    parts = [_blob(manifest, blob) for blob in manifest.blobs]
    libraries = [_library(row) for row in distributions]
    bom = _bom.Bom(components=[*parts, *libraries])
    bom.metadata.component = bundle
    needed = [c for c, row in zip(libraries, distributions, strict=True) if row.runs]
    bom.register_dependency(bundle, [*parts, *needed])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"]
    document["metadata"].pop("timestamp", None)
    return dumps(document)


def _bundle(manifest: Manifest, source: Source | None) -> Any:
    component = _component.Component(
        name=manifest.name,
        version=manifest.version,
        type=_Type.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        properties=[_model.Property(name="partitioner:target", value=manifest.target)],
    )
    if source is None:
        return component
    component.properties.add(_model.Property(name="partitioner:source", value=source.name))
    component.properties.add(_model.Property(name="partitioner:source:digest", value=source.digest))
    if source.revision is not None:
        notes = "with changes that were not committed" if source.dirty else None
        component.pedigree = _component.Pedigree(
            commits=[_component.Commit(uid=source.revision)], notes=notes
        )
    return component


def _blob(manifest: Manifest, blob: Blob) -> Any:
    readers = [
        name
        for name, artifact in manifest.artifacts.items()
        if blob.digest == artifact.graph or blob.digest in artifact.weights
    ]
    graphs = {artifact.graph for artifact in manifest.artifacts.values()}
    return _component.Component(
        name=f"{BLOBS}/{hex_of(blob.digest)}",
        type=_Type.FILE if blob.digest in graphs else _Type.DATA,
        bom_ref=blob.digest,
        description=f"read by {', '.join(sorted(readers))}" if readers else None,
        hashes=[_model.HashType(alg=_model.HashAlgorithm.SHA_256, content=hex_of(blob.digest))],
        # The library writes its own field for the type under a key that the schema does not know.
        properties=[
            _model.Property(name="partitioner:media-type", value=blob.media_type),
            _model.Property(name="partitioner:size", value=str(blob.size)),
        ],
    )


def _library(row: Distribution) -> Any:
    return _component.Component(
        name=row.name,
        version=row.version,
        type=_Type.PLATFORM if row.name == "python" else _Type.LIBRARY,
        scope=_Scope.REQUIRED if row.runs else _Scope.EXCLUDED,
        licenses=[LicenseFactory().make_from_string(row.licence)] if row.licence else None,
        purl=row.purl,
        bom_ref=str(row.purl),
    )
