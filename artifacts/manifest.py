"""The manifest: what a bundle holds and how it is run. Data types, reading and writing.

The format, field by field, is described in ``docs/bundle-format.md``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, cast

from partitioner.artifacts.codec import decode, dumps, encode, loads, tagged
from partitioner.errors import BundleError, IncompatibleBundleError
from partitioner.plan import Call, Loop, Plan
from partitioner.specs import Image, InputSpec, Noise, TensorSpec

__all__ = [
    "MAX_MANIFEST_BYTES",
    "READABLE",
    "SCHEMA_VERSION",
    "Artifact",
    "Blob",
    "ConstantRef",
    "Expected",
    "Manifest",
    "ParitySample",
    "SampleInput",
    "SegmentExpected",
    "Tolerance",
]

#: Written by this version.
SCHEMA_VERSION = "1.0"

#: Read by this version: this major version, from this minor version on. A newer minor version is
#: read too; keys that it added are passed over.
READABLE = (1, 0)

#: Larger manifests are refused before they are read.
MAX_MANIFEST_BYTES = 64 * 2**20

tagged(Call, Loop, Image, Noise)


@dataclass(frozen=True)
class Blob:
    """One content-addressed file. ``size`` in bytes."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class ConstantRef:
    """Raw little-endian data in C order, inside a blob; dtype and shape stand elsewhere."""

    blob: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Artifact:
    """What a backend made of one segment.

    Args:
        graph: digest of the compiled graph; None for a host op.
        weights: digests of the blobs it reads weights from.
        options: for the backend; each backend has an allow-list.
    """

    backend: str
    graph: str | None
    weights: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """``relative``: of the L2 norm of the difference to the norm of the expected value.
    ``absolute``: the difference's root mean square that is accepted whatever the norm."""

    relative: float
    absolute: float


@dataclass(frozen=True)
class Expected:
    """An expected tensor: its type, its L2 norm, and float64 values at evenly spaced positions.

    The positions are ``floor(i * size / count)`` of the flat tensor for i in 0..count-1;
    ``values`` refers to ``count`` float64 numbers. ``exact`` is False for what comes after a host
    op, whose result may have another number of rows on another host.
    """

    spec: TensorSpec
    norm: float
    count: int
    values: ConstantRef
    exact: bool = True


@dataclass(frozen=True)
class SegmentExpected:
    """What a segment gave at its ``call``-th call of the run, counted from 0."""

    segment: str
    call: int
    outputs: dict[str, Expected]


@dataclass(frozen=True)
class SampleInput:
    """An example input, as a whole."""

    spec: TensorSpec
    data: ConstantRef


@dataclass(frozen=True)
class ParitySample:
    """One run of the eager pipeline, to compare with. Noise is drawn from ``seed``."""

    seed: int
    inputs: dict[str, SampleInput]
    outputs: dict[str, Expected]
    segments: tuple[SegmentExpected, ...]
    tolerance: Tolerance


@dataclass(frozen=True)
class Manifest:
    """All that the runtime and people need to know of a bundle.

    Args:
        name, version: labels; the identity of a bundle is its digest.
        target: what it was built for.
        artifacts: by segment name.
        constants: by value id of the plan.
        blobs: every blob but the manifest's own, sorted by digest.
        parity: None if the build was told not to check.
        toolchain: what made it: distribution -> version.
        options: the build's options.
        report: what the build has to say (loops found, passes, warnings).
    """

    name: str
    version: str
    target: str
    inputs: tuple[InputSpec, ...]
    outputs: dict[str, TensorSpec]
    plan: Plan
    artifacts: dict[str, Artifact]
    constants: dict[str, ConstantRef]
    blobs: tuple[Blob, ...]
    parity: ParitySample | None = None
    toolchain: dict[str, str] = field(default_factory=dict[str, str])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    schema_version: str = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return dumps(encode(self))

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read and check a manifest.

        Raises:
            BundleError: malformed, or it contradicts itself.
            IncompatibleBundleError: of a schema version outside the readable range.
        """
        from partitioner.artifacts.validate import validate

        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(
                f"the manifest has {len(data)} bytes; at most {MAX_MANIFEST_BYTES} are read",
                advice="the bundle is damaged or was not made by partitioner",
            )
        document = loads(data, "the manifest")
        lenient = _check_version(document)
        manifest = cast(Manifest, decode(cls, document, lenient=lenient))
        validate(manifest)
        return manifest

    def blob(self, digest: str) -> Blob:
        """The declared blob with this digest."""
        return self._by_digest[digest]

    @property
    def _by_digest(self) -> dict[str, Blob]:
        return {blob.digest: blob for blob in self.blobs}

    def replace(self, **changes: Any) -> Manifest:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def _check_version(document: Any) -> bool:
    """Whether the document is of a newer minor version."""
    text = cast("dict[str, Any]", document).get("schema_version") if isinstance(document, dict) else None
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts):
        raise BundleError(
            f"the manifest's schema_version is {text!r}",
            advice="the bundle is damaged or was not made by partitioner",
        )
    major, minor = int(parts[0]), int(parts[1])
    if major != READABLE[0]:
        advice = (
            "install a newer partitioner, or build the bundle with this one"
            if major > READABLE[0]
            else "build the bundle anew"
        )
        raise IncompatibleBundleError(
            f"the bundle has schema version {text}; this partitioner reads {READABLE[0]}.x",
            advice=advice,
        )
    return minor > int(SCHEMA_VERSION.split(".")[1])
