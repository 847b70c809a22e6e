"""The manifest: what a bundle holds and how it is run. Data types, reading and writing.

The format, field by field, is described in ``docs/bundle-format.md``.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.faults import damaged, shown
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.kinds import Age, ordered
from partitioner.buffers.usage import MemoryUse
from partitioner.errors import IncompatibleBundleError
from partitioner.plan import Plan
from partitioner.specs import InputSpec, TensorSpec

__all__ = [
    "MAX_MANIFEST_BYTES",
    "READABLE",
    "SCHEMA_VERSION",
    "Artifact",
    "Batch",
    "Blob",
    "ConstantRef",
    "Expected",
    "Manifest",
    "ParitySample",
    "Requirement",
    "SampleInput",
    "SegmentExpected",
    "Tolerance",
    "Variant",
]

#: Written by this version.
SCHEMA_VERSION = "1.5"

#: The oldest version that is read. All later minor versions of its major version are read too.
READABLE = (1, 0)

#: Larger manifests are refused before they are read.
MAX_MANIFEST_BYTES = 64 * 2**20

_VERSION = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\Z")


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

    @property
    def is_deferred(self) -> bool:
        """Whether it is still to be compiled (``partition compile``)."""
        return self.options.get("state") == "deferred"


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
    ``values`` refers to ``count`` float64 numbers. ``norm`` is -1 where it is no finite number.
    ``exact`` is False for what comes after a host op, whose result may have another number of
    rows on another host.
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
class Variant:
    """One of several schedules of a bundle: all segments and weights are shared.

    Args:
        options: those of the pipeline that tell this variant from the others, ``{"steps": 20}``.
        trips: of each loop of the plan, by its name.
        repeats: of the plan's draw groups, in their order.
        constants: by value id of the plan; those that are not named are the bundle's own.
        parity: None if the build was told not to check; without segments, whose sample is the
            bundle's own.
        memory: of a run with this schedule; None for the first variant, whose figures are the
            bundle's own. Since 1.2.
    """

    options: dict[str, Any]
    trips: dict[str, int]
    repeats: tuple[int, ...]
    constants: dict[str, ConstantRef]
    parity: ParitySample | None = None
    memory: MemoryUse | None = None


@dataclass(frozen=True)
class Batch:
    """How a bucket serves several requests in one run: each has a row.

    What is drawn has a row for each, too: in dimension 0, or in dimension 1 of what has a row for
    each trip of a loop in dimension 0.

    Args:
        rows: how many.
        inputs: those with a row for each request, in dimension 0.
        stacked: outputs with a row for each request, in dimension 0.
        listed: outputs of which each row is one by itself, ``NAME.0``, ``NAME.1`` and so on (of one
            row: ``NAME`` or ``NAME.0``).
        least: where it serves a range, the fewest; ``rows`` are the most then, and the plan is for
            these. Since 1.5.
        growth: value id -> by how much each of its dimensions grows with a row, of those that do;
            for a range only. Since 1.5.
    """

    rows: int
    inputs: tuple[str, ...]
    stacked: tuple[str, ...]
    listed: tuple[str, ...]
    least: int | None = None
    growth: dict[str, tuple[int, ...]] = field(default_factory=dict[str, "tuple[int, ...]"])

    def __str__(self) -> str:
        return str(self.rows) if self.least is None else f"{self.least}-{self.rows}"

    @property
    def sizes(self) -> range:
        """The numbers of requests that it serves without filling up."""
        return range(self.rows if self.least is None else self.least, self.rows + 1)


@dataclass(frozen=True)
class Requirement:
    """Something that a host must have: an ordered comparison.

    Args:
        kind: ``library``, ``machine``, ``instructions`` or ``device``. A reader that does not know
            a kind takes it for unmet.
        name: a distribution; one or several machines, by commas; the machine whose instructions
            are compared, where the host is one; an accelerator.
        at_least: a version, or a level of instructions; empty for any.
        below: a version; empty for none.
        firm: whether it cannot be run without. What is not firm says what it is meant for: a caller
            who names the target gets it all the same.
        reason: for people.
    """

    kind: str
    name: str
    at_least: str = ""
    below: str = ""
    firm: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Manifest:
    """All that the runtime and people need to know of a bundle.

    Args:
        name, version: labels; the identity of a bundle is its digest.
        target: what it was built for.
        inputs: in the order of the pipeline's arguments.
        outputs: in the order of the pipeline's results.
        artifacts: by segment name.
        constants: by value id of the plan.
        blobs: every blob but the manifest's own, sorted by digest.
        parity: None if the build was told not to check.
        toolchain: what made it: distribution -> version.
        options: the build's options.
        report: what the build has to say (loops found, passes, warnings).
        variants: the schedules that a caller may choose from, if there are several. The first is
            the one of ``plan`` and ``constants``, and is taken if nothing is chosen. Since 1.1.
        memory: of a run of ``plan``, for people and for who admits requests; the runtime makes
            its own buffer plan. None in bundles of before 1.2.
        requirements: what a host must have; checked before any blob is loaded. None are stated in
            bundles of before 1.3.
        batch: what is a row of what, in a bucket; None where a run serves one request. Since 1.4.
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
    variants: tuple[Variant, ...] = ()
    memory: MemoryUse | None = None
    requirements: tuple[Requirement, ...] = ()
    batch: Batch | None = None
    schema_version: str = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes.

        Raises:
            BundleError: a field holds what JSON or the format cannot; names the JSON path.
        """
        return dumps(encode(self))

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read and check a manifest. Whatever the bytes, no other exception is raised.

        Raises:
            BundleError: malformed, or it contradicts itself.
            IncompatibleBundleError: of a schema version outside the readable range.
        """
        from partitioner.artifacts.validate import validate

        if len(data) > MAX_MANIFEST_BYTES:
            raise damaged(
                f"the manifest has {len(data)} bytes; at most {MAX_MANIFEST_BYTES} are read"
            )
        document = loads(data, "the manifest")
        manifest = cast(Manifest, decode(cls, document, age=_age(document)))
        validate(manifest)
        return manifest

    def blob(self, digest: str) -> Blob:
        """The declared blob with this digest.

        Raises:
            BundleError: there is none.
        """
        found = self.blobs_by_digest.get(digest)
        if found is None:
            raise damaged(f"the blob {shown(digest, 80)} is not declared in the manifest")
        return found

    @cached_property
    def blobs_by_digest(self) -> dict[str, Blob]:
        """The declared blobs."""
        return {blob.digest: blob for blob in self.blobs}

    @property
    def labels(self) -> dict[str, str]:
        """What tells it from other members of its bundle."""
        batch = {} if self.batch is None else {"batch": str(self.batch)}
        return {"target": self.target, **batch}

    def replace(self, **changes: Any) -> Manifest:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


# JSON objects have no order; people expect outputs and segments in that of the pipeline.
ordered(Manifest, "outputs")
ordered(Plan, "outputs", "segments")


def _age(document: Any) -> Age:
    """How the document's version stands to the one written."""
    if not isinstance(document, dict):
        raise damaged("the manifest is not a JSON object")
    text = cast("dict[str, Any]", document).get("schema_version")
    match = _VERSION.match(text) if isinstance(text, str) else None
    if match is None:
        raise damaged(f"the manifest's schema_version is {shown(text)}", "$.schema_version")
    version = int(match[1]), int(match[2])
    if version[0] > READABLE[0]:
        raise _incompatible(
            version, "install a newer partitioner, or build the bundle with this one"
        )
    if version < READABLE:
        raise _incompatible(version, "build the bundle anew with this partitioner")
    own = _parsed(SCHEMA_VERSION)
    return "same" if version == own else "newer" if version > own else "older"


def _parsed(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def _incompatible(version: tuple[int, int], advice: str) -> IncompatibleBundleError:
    return IncompatibleBundleError(
        f"the bundle has the schema version {version[0]}.{version[1]}; this partitioner reads "
        f"{READABLE[0]}.{READABLE[1]} and later {READABLE[0]}.x",
        where="$.schema_version",
        advice=advice,
    )
