"""The two documents as blobs of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from partitioner.artifacts.attestations import PROVENANCE_TYPE, REPORT_KEY, SBOM_TYPE
from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.writer import BundleWriter
from partitioner.provenance.distributions import Distribution
from partitioner.provenance.sbom import write_sbom
from partitioner.provenance.source import Source
from partitioner.provenance.statement import write_statement

__all__ = ["declared"]


def declared(
    manifest: Manifest, writer: BundleWriter, source: Source | None, rows: Sequence[Distribution]
) -> Manifest:
    """The manifest that declares both, and names them in its report.

    Raises:
        OutputError: they cannot be written.
    """
    sbom = writer.add_bytes(write_sbom(manifest, source, rows), SBOM_TYPE)
    statement = writer.add_bytes(write_statement(manifest, source, rows), PROVENANCE_TYPE)
    blobs = {blob.digest: blob for blob in (*manifest.blobs, sbom, statement)}
    return manifest.replace(
        blobs=tuple(blobs[digest] for digest in sorted(blobs)),
        report={
            **manifest.report,
            REPORT_KEY: {"sbom": sbom.digest, "provenance": statement.digest},
        },
    )
