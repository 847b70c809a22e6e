"""The few documents of the OCI image layout that a bundle consists of, written and read.

``oci-layout`` and ``index.json`` lie in the bundle's directory; ``index.json`` names the *root*
among the blobs. That is an image manifest, whose config is the bundle's manifest and whose layers
are its blobs; or, in a bundle of several members, an image index of such image manifests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from partitioner.artifacts.digest import check_digest
from partitioner.artifacts.faults import damaged, shown
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.names import check_label

__all__ = [
    "ARTIFACT_TYPE",
    "BLOBS",
    "CONFIG_TYPE",
    "IMAGE_TYPE",
    "INDEX_FILE",
    "INDEX_TYPE",
    "LAYOUT_FILE",
    "MAX_MEMBERS",
    "Member",
    "label_text",
    "read_image",
    "read_index",
    "read_layout",
    "read_root",
    "write_image",
    "write_index",
    "write_layout",
    "write_members",
]

ARTIFACT_TYPE = "application/vnd.partitioner.bundle.v1+json"
CONFIG_TYPE = "application/vnd.partitioner.manifest.v1+json"
IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs/sha256"

#: Members of a bundle.
MAX_MEMBERS = 256

_LAYOUT_VERSION = "1.0.0"

#: Of the annotations that are labels.
_PREFIX = "dev.partitioner."
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")

#: ``platform.machine()`` -> how OCI, after Go, calls it.
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Member:
    """One of the image manifests of a bundle: the pipeline, built for one target.

    Args:
        image: the image manifest.
        labels: tell the members of a bundle from one another: ``{"target": "xeon"}``.
        machine: a ``platform.machine()`` that it is for, empty for any; for registries' tools.
    """

    image: Blob
    labels: dict[str, str] = field(default_factory=dict[str, str])
    machine: str = ""

    def __str__(self) -> str:
        return label_text(self.labels)

    def has(self, wanted: Mapping[str, str]) -> bool:
        """Whether it has all of these labels."""
        return wanted.items() <= self.labels.items()


def label_text(labels: Mapping[str, str]) -> str:
    """Labels as the command line takes them, the target first: ``target=xeon,batch=4``."""
    names = sorted(labels, key=lambda name: (name != "target", name))
    return ",".join(f"{name}={labels[name]}" for name in names)


def write_layout() -> bytes:
    """The content of ``oci-layout``."""
    return dumps({"imageLayoutVersion": _LAYOUT_VERSION})


def write_image(config: Blob, layers: Iterable[Blob]) -> bytes:
    """The image manifest; its digest is the bundle's, if that has one member."""
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        }
    )


def write_members(members: Sequence[Member]) -> bytes:
    """The image index of several members, the preferred ones first; its digest is the bundle's."""
    rows: list[dict[str, Any]] = []
    for member in members:
        annotations = {f"{_PREFIX}{name}": value for name, value in member.labels.items()}
        row = {**_descriptor(member.image), "artifactType": ARTIFACT_TYPE}
        row["annotations"] = annotations
        if member.machine in _ARCHITECTURES:
            row["platform"] = {"architecture": _ARCHITECTURES[member.machine], "os": "linux"}
        rows.append(row)
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "manifests": rows,
        }
    )


def write_index(root: Blob) -> bytes:
    """The content of ``index.json``."""
    entry = {**_descriptor(root), "artifactType": ARTIFACT_TYPE}
    return dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def read_layout(data: bytes) -> None:
    """Check ``oci-layout``.

    Raises:
        BundleError: not an image layout of the known version.
    """
    if _member(loads(data, LAYOUT_FILE), "imageLayoutVersion", str) != _LAYOUT_VERSION:
        raise damaged(f"not an OCI image layout of version {_LAYOUT_VERSION}", LAYOUT_FILE)


def read_index(data: bytes) -> Blob:
    """The root that ``index.json`` names. What other tools add beside it is let be.

    Raises:
        BundleError: malformed, or it does not name exactly one.
    """
    entries = _member(loads(data, INDEX_FILE), "manifests", list)
    if len(entries) != 1:
        raise damaged(f"{len(entries)} bundles are listed, where one is expected", INDEX_FILE)
    root = _blob(entries[0], None, INDEX_FILE)
    if root.media_type not in (IMAGE_TYPE, INDEX_TYPE):
        raise damaged("a descriptor is neither of an image manifest nor of an index", INDEX_FILE)
    return root


def read_root(root: Blob, data: bytes) -> tuple[Blob, tuple[Member, ...]]:
    """The root with its media type, and the members of a bundle.

    There is one member without labels, where the root is its image manifest itself.

    Args:
        root: as who points to it says; with an empty media type, where that does not say.

    Raises:
        BundleError: malformed, or of another kind than ``root`` says.
    """
    where = "the OCI index"
    document = loads(data, where)
    # The kind is part of what is hashed; a descriptor can only repeat it.
    kind = _member(document, "mediaType", str)
    if kind not in (IMAGE_TYPE, INDEX_TYPE) or root.media_type not in ("", kind):
        raise damaged("it is not of the type that its descriptor says", where)
    root = Blob(root.digest, root.size, kind)
    if kind == IMAGE_TYPE:
        return root, (Member(root),)
    if "config" in document or "layers" in document:
        raise damaged("it is an index and an image manifest at once", where)
    if _member(document, "artifactType", str) != ARTIFACT_TYPE:
        raise damaged("an OCI index, but not a bundle of partitioner", where)
    rows = _member(document, "manifests", list)
    if not 0 < len(rows) <= MAX_MEMBERS:
        raise damaged(f"{len(rows)} members, where 1 to {MAX_MEMBERS} are expected", where)
    members = tuple(_read_member(row, where) for row in rows)
    if len({label_text(member.labels) for member in members}) != len(members):
        raise damaged("two members have the same labels", where)
    return root, members


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


def _read_member(row: Any, where: str) -> Member:
    image = _blob(row, IMAGE_TYPE, where)
    labels: dict[str, str] = {}
    for key, value in _member(row, "annotations", dict).items():
        if not key.startswith(_PREFIX):
            continue  # Another tool's.
        name = key.removeprefix(_PREFIX)
        if _LABEL.match(name) is None or not isinstance(value, str):
            raise damaged(f"a member has the malformed label {shown(name)}", where)
        check_label(value, f"the label {name!r} of a member")
        labels[name] = value
    if "target" not in labels:
        raise damaged("a member does not say for which target it is", where)
    return Member(image, labels, _machine_of(row))


def _machine_of(row: Any) -> str:
    """Of a member, empty where what it says is not ours: nothing here relies on it."""
    platform = row.get("platform")
    name = cast("dict[str, Any]", platform).get("architecture") if type(platform) is dict else None
    return _MACHINES.get(name, "") if isinstance(name, str) else ""


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
