"""How a bundle was built: an in-toto statement with the predicate "SLSA provenance v1".

in-toto Attestation Framework, Statement v1; SLSA 1.0, "Provenance". The statement is a blob of the
bundle, so it cannot name the bundle's digest: its subjects are all other blobs. A signature of the
bundle signs it; it has no envelope of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.oci import BLOBS
from partitioner.provenance.distributions import Distribution
from partitioner.provenance.source import Source

__all__ = ["BUILDER_VARIABLE", "BUILD_TYPE", "STATEMENT_TYPE", "write_statement"]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://slsa.dev/provenance/v1"

#: What the parameters mean is said in ``docs/bundle-format.md``.
BUILD_TYPE = "urn:partitioner:build:v1"

#: Names the platform that builds, as a URI; a CI that vouches for its builds sets its own.
BUILDER_VARIABLE = "PARTITIONER_BUILDER_ID"
_ANYBODY = "urn:partitioner:builder:local"


def write_statement(
    manifest: Manifest, source: Source | None, distributions: Sequence[Distribution]
) -> bytes:
    """The statement as canonical JSON."""
    return dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": f"{BLOBS}/{hex_of(b.digest)}", "digest": {"sha256": hex_of(b.digest)}}
                for b in manifest.blobs
            ],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": _parameters(manifest),
                    "internalParameters": {"schema_version": manifest.schema_version},
                    "resolvedDependencies": [
                        *([] if source is None else _source(source)),
                        *({"uri": str(row.purl), "name": row.name} for row in distributions),
                    ],
                },
                "runDetails": {
                    "builder": {
                        "id": os.environ.get(BUILDER_VARIABLE) or _ANYBODY,
                        "version": {
                            name: manifest.toolchain[name]
                            for name in ("partitioner", "python")
                            if name in manifest.toolchain
                        },
                    },
                },
            },
        }
    )


def _parameters(manifest: Manifest) -> Mapping[str, Any]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "target": manifest.target,
        "options": manifest.options,
        "variants": [variant.options for variant in manifest.variants],
    }


def _source(source: Source) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"name": source.name, "digest": {"sha256": hex_of(source.digest)}}
    ]
    if source.revision is not None:
        # Git's own name of a commit, as in-toto's "digest set" calls it.
        digest, notes = {"gitCommit": source.revision}, {"dirty": source.dirty}
        rows.insert(0, {"name": "source", "digest": digest, "annotations": notes})
    return rows
