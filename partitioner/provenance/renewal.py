"""The documents of a bundle that was built here and compiled there, about what it is in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from partitioner.artifacts.attestations import REPORT_KEY, read_attestation
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.writer import BundleWriter
from partitioner.provenance.declaring import declared
from partitioner.provenance.distributions import Distribution
from partitioner.provenance.source import Source

__all__ = ["renewed", "unattested"]


def unattested(manifest: Manifest) -> Manifest:
    """The same without its two documents, which speak of blobs that may be gone."""
    report = {key: value for key, value in manifest.report.items() if key != REPORT_KEY}
    return manifest.replace(report=report)


def renewed(
    manifest: Manifest, writer: BundleWriter, before: Bundle, added: Iterable[Distribution]
) -> Manifest:
    """Write the two documents anew, if the bundle had them.

    The pipeline's source and the distributions of the build are those that the old ones name.

    Args:
        manifest: of the finished bundle, without documents.
        writer: that it goes into.
        before: what it was finished from.
        added: distributions of the machine that has finished it.

    Raises:
        BundleError: the old documents are damaged.
        OutputError: the new ones cannot be written.
    """
    if REPORT_KEY not in before.manifest.report:
        return manifest
    try:
        known = _distributions(read_attestation(before, "sbom"))
        source = _source(read_attestation(before, "provenance"))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"the bundle's sbom or provenance is malformed: {error!r}"
        raise damaged(what, before.path) from error
    rows = list({str(row.purl): row for row in (*added, *known)}.values())
    rows.sort(key=lambda row: (row.name, row.version))
    return declared(manifest, writer, source, rows)


def _distributions(sbom: Any) -> list[Distribution]:
    return [
        Distribution(
            str(row["name"]),
            str(row["version"]),
            _licence(row.get("licenses") or []),
            row.get("scope") == "required",
        )
        for row in sbom["components"]
        if "purl" in row
    ]


def _licence(stated: Any) -> str:
    if not stated:
        return ""
    first = stated[0]
    licence = first.get("license", {})
    return str(first.get("expression") or licence.get("id") or licence.get("name") or "")


def _source(statement: Any) -> Source | None:
    """What :func:`.statement.write_statement` says of it; distributions have a ``uri``."""
    rows = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    own = [row for row in rows if "uri" not in row]
    files = [row for row in own if "sha256" in row["digest"]]
    if not files:
        return None
    commits = [row for row in own if "gitCommit" in row["digest"]]
    return Source(
        str(files[0]["name"]),
        f"sha256:{files[0]['digest']['sha256']}",
        str(commits[0]["digest"]["gitCommit"]) if commits else None,
        bool(commits and commits[0]["annotations"]["dirty"]),
    )
