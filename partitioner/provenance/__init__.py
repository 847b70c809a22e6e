"""What a bundle says of its origin: a bill of materials and a statement of provenance.

Both are blobs of the bundle, so whatever vouches for its digest vouches for them, too. Neither
tells when, where or by whom it was built: the same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.writer import BundleWriter
from partitioner.provenance.declaring import declared
from partitioner.provenance.distributions import packages_of, used
from partitioner.provenance.source import find_source

__all__ = ["attested"]


def attested(
    manifest: Manifest, writer: BundleWriter, kinds: Iterable[type], file: Path | None
) -> Manifest:
    """Add the two documents about a bundle to its writer.

    Args:
        manifest: finished but for them.
        kinds: classes of the pipeline and its stages.
        file: that the pipeline was made by, if it is known.

    Returns:
        the manifest that declares them, and names them in its report.

    Raises:
        OutputError: they cannot be written.
    """
    source = None if file is None else find_source(file)
    backends = {artifact.backend for artifact in manifest.artifacts.values()}
    rows = used(manifest.toolchain, backends, packages_of(kinds))
    return declared(manifest, writer, source, rows)
