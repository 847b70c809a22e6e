"""The few documents of the OCI image layout that a bundle consists of, written and read.

``oci-layout`` and ``index.json`` lie in the bundle's directory; ``index.json`` names one image
manifest among the blobs, whose config is the bundle's manifest and whose layers are its blobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from partitioner.artifacts.digest import check_digest
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import Blob

__all__ = [
    "ARTIFACT_TYPE",
    "BLOBS",
    "CONFIG_TYPE",
    "IMAGE_TYPE",
    "INDEX_FILE",
    "LAYOUT_FILE",
    "read_image",
    "read_index",
    "read_layout",
    "write_image",
    "write_index",
    "write_layout",
]

ARTIFACT_TYPE = "application/vnd.partitioner.bundle.v1+json"
CONFIG_TYPE = "application/vnd.partitioner.manifest.v1+json"
IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs/sha256"

_LAYOUT_VERSION = "1.0.0"


def write_layout() -> bytes:
    """The content of ``oci-layout``."""
    return dumps({"imageLayoutVersion": _LAYOUT_VERSION})


def write_image(config: Blob, layers: Iterable[Blob]) -> bytes:
    """The image manifest; its digest is the bundle's."""
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        }
    )


def write_index(image: Blob) -> bytes:
    """The content of ``index.json``."""
    entry = {**_descriptor(image), "artifactType": ARTIFACT_TYPE}
    return dumps({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]})


def read_layout(data: bytes) -> None:
    """Check ``oci-layout``.

    Raises:
        BundleError: not an image layout of the known version.
    """
    if _member(loads(data, LAYOUT_FILE), "imageLayoutVersion", str) != _LAYOUT_VERSION:
        raise damaged(f"not an OCI image layout of version {_LAYOUT_VERSION}", LAYOUT_FILE)


def read_index(data: bytes) -> Blob:
    """The image manifest that ``index.json`` names. What other tools add beside it is let be.

    Raises:
        BundleError: malformed, or it does not name exactly one.
    """
    entries = _member(loads(data, INDEX_FILE), "manifests", list)
    if len(entries) != 1:
        raise damaged(f"{len(entries)} bundles are listed, where one is expected", INDEX_FILE)
    return _blob(entries[0], IMAGE_TYPE, INDEX_FILE)


def read_image(data: bytes) -> tuple[Blob, tuple[Blob, ...]]:
    """Config and layers of an image manifest.

    Raises:
        BundleError: malformed, or not that of a bundle.
    """
    where = "the OCI manifest"
    document = loads(data, where)
    kind = _member(document, "artifactType", str)
    if kind != ARTIFACT_TYPE:
        raise damaged("an OCI artifact, but not a bundle of partitioner", where)
    config = _blob(_member(document, "config", dict), CONFIG_TYPE, where)
    layers = _member(document, "layers", list)
    return config, tuple(_blob(layer, None, where) for layer in layers)


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _blob(value: Any, media_type: str | None, where: str) -> Blob:
    kind = _member(value, "mediaType", str)
    size = _member(value, "size", int)
    if media_type is not None and kind != media_type:
        raise damaged(f"a descriptor is not of the type {media_type}", where)
    if size < 0:
        raise damaged("a descriptor has a negative size", where)
    return Blob(check_digest(_member(value, "digest", str)), size, kind)


def _member(document: Any, name: str, kind: type) -> Any:
    value = cast("dict[str, Any]", document).get(name) if isinstance(document, dict) else None
    if type(value) is not kind:
        raise damaged(f"an OCI document of the bundle has no valid {name!r}")
    return value
