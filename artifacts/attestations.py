"""The documents in which a bundle tells of its origin, read with distrust.

They are blobs, named by digest in the manifest's report. Who makes them is
``partitioner/provenance/``.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.jsontext import loads
from partitioner.errors import BundleError

__all__ = ["PROVENANCE_TYPE", "REPORT_KEY", "SBOM_TYPE", "Kind", "read_attestation"]

#: Media types as IANA has them registered.
SBOM_TYPE = "application/vnd.cyclonedx+json"
PROVENANCE_TYPE = "application/vnd.in-toto+json"

#: Of the manifest's report: kind -> digest.
REPORT_KEY = "attestations"

Kind = Literal["sbom", "provenance"]

_TYPES: dict[Kind, str] = {"sbom": SBOM_TYPE, "provenance": PROVENANCE_TYPE}

#: Larger ones are refused unread.
_MAX_BYTES = 16 * 2**20


def read_attestation(bundle: Bundle, kind: Kind) -> Any:
    """A bundle's bill of materials (CycloneDX) or provenance (in-toto, SLSA), as JSON.

    What it says is what the bundle's maker says: with a verified signature, whoever holds the key.

    Raises:
        BundleError: the bundle has none, or it is damaged.
    """
    named = bundle.manifest.report.get(REPORT_KEY)
    digest = cast("dict[str, Any]", named).get(kind) if isinstance(named, dict) else None
    if digest is None:
        raise BundleError(
            f"the bundle has no {kind}",
            where=str(bundle.path),
            advice="build it anew; older versions made none",
        )
    if not isinstance(digest, str):
        raise damaged(f"the bundle's report names no digest of a {kind}", bundle.path)
    blob = bundle.manifest.blob(digest)
    if blob.media_type != _TYPES[kind]:
        raise damaged(f"the {kind} is not of the type {_TYPES[kind]}", bundle.path)
    if blob.size > _MAX_BYTES:
        raise damaged(f"the {kind} has {blob.size} bytes; at most {_MAX_BYTES} are read")
    return loads(bundle.read(digest), f"the {kind}")
