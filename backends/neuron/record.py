"""What a Neuron artifact says of itself, in the options of the manifest: written by the compiler,
read strictly by whoever loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.faults import shown
from partitioner.backends.neuron.settings import Settings
from partitioner.errors import BundleError, IncompatibleBundleError

__all__ = [
    "ARCHIVE_TYPE",
    "FORMAT",
    "PORTABLE_TYPE",
    "Argument",
    "Deferred",
    "NeffFacts",
    "Record",
    "Result",
    "read_deferred",
    "read_record",
]

#: Version of this record; another one is refused.
FORMAT = 1

#: Media types of an artifact's graph: compiled, and to be compiled.
ARCHIVE_TYPE = "application/vnd.partitioner.neuron.v1"
PORTABLE_TYPE = "application/vnd.partitioner.neuron.graph.v1+json"

Dtype = Literal["bool", "uint8", "int8", "int16", "int32", "float16", "float32"]


@dataclass(frozen=True)
class Argument:
    """An argument of the traced module.

    Args:
        input: which of the segment's inputs it is.
        dtype: that it takes; the segment's own may be wider.
        shape: that it takes.
    """

    input: int
    dtype: Dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """Where an output of the segment comes from.

    Args:
        output: index of the traced module's output; None for an input that is given back.
        input: index of that input.
    """

    output: int | None = None
    input: int | None = None


@dataclass(frozen=True)
class NeffFacts:
    """Fields of the NEFF's header, and its digest."""

    sha256: str
    bytes: int
    package: int
    major: int
    minor: int
    build: str
    cores: int
    requested_cores: int
    features: int
    lnc: int


@dataclass(frozen=True)
class Record:
    """A compiled artifact.

    Args:
        target: family that it was compiled for.
        lnc: physical cores a logical core.
        args: of neuronx-cc.
        versions: of what compiled it.
        arguments, results: how a call of the segment becomes one of the traced module.
        inline_weights: whether weights are part of the NEFF.
        lazy_load, async_load: as in :class:`.settings.Settings`.
        precision: ``bf16`` where products may be computed in it.
        neff: its header.
        measured: seconds of a call with the weights ``inline`` and ``separate``, on the device of
            the machine that compiled; empty where that was not asked for, or could not be.
        state: ``compiled``.
        format: of this record.
    """

    target: str
    lnc: int
    args: tuple[str, ...]
    versions: dict[str, str]
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    neff: NeffFacts
    inline_weights: bool = True
    lazy_load: bool = False
    async_load: bool = False
    precision: Literal["f32", "f16", "bf16"] = "f32"
    warnings: tuple[str, ...] = ()
    measured: dict[str, float] = field(default_factory=dict[str, float])
    state: Literal["compiled"] = "compiled"
    format: int = field(default=FORMAT)

    def options(self) -> dict[str, Any]:
        """As an artifact has them."""
        return cast("dict[str, Any]", encode(self))


@dataclass(frozen=True)
class Deferred:
    """An artifact that is still to be compiled: its graph is portable, its weights are shared.

    Args:
        target: family that it is to be compiled for.
        settings: as the caller gave them.
        precision: of the build.
        state: ``deferred``.
        format: of this record.
    """

    target: str
    settings: Settings = field(default_factory=Settings)
    precision: Literal["f32", "f16", "bf16"] = "f32"
    state: Literal["deferred"] = "deferred"
    format: int = field(default=FORMAT)

    def options(self) -> dict[str, Any]:
        """As an artifact has them."""
        return cast("dict[str, Any]", encode(self))


def read_deferred(options: Mapping[str, Any], where: str) -> Deferred:
    """The record of an artifact that is to be compiled.

    Raises:
        BundleError: malformed, or of another version.
    """
    try:
        found = cast(Deferred, decode(Deferred, dict(options)))
    except BundleError as error:
        raise BundleError(
            f"the deferred Neuron artifact's options are malformed: {error.what}",
            where=where,
            advice="build the bundle anew",
        ) from error
    if found.format != FORMAT:
        raise IncompatibleBundleError(
            f"the Neuron artifact has the format {found.format}; this version reads {FORMAT}",
            where=where,
            advice="upgrade partitioner if the bundle was built by a newer version",
        )
    return found


def read_record(options: Mapping[str, Any], inputs: int, outputs: int, where: str) -> Record:
    """The record in an artifact's options.

    Args:
        inputs, outputs: how many the segment has.

    Raises:
        IncompatibleBundleError: of another version, or with options that this one does not allow.
        BundleError: malformed.
    """
    if options.get("format") != FORMAT:
        raise IncompatibleBundleError(
            f"the Neuron artifact has the format {shown(options.get('format'))}; this version "
            f"runs {FORMAT}",
            where=where,
            advice="upgrade partitioner if the bundle was built by a newer version",
        )
    unknown = sorted(set(options) - {f.name for f in fields(Record)})
    if unknown:
        raise IncompatibleBundleError(
            f"the artifact asks for {shown(unknown[0])}, which this version does not allow",
            where=where,
            advice="upgrade partitioner if the bundle was built by a newer version",
        )
    try:
        record = cast(Record, decode(Record, dict(options)))
    except BundleError as error:
        raise BundleError(
            f"the Neuron artifact's options are malformed: {error.what}",
            where=where,
            advice=error.advice,
        ) from error
    _check_ports(record, inputs, outputs, where)
    return record


def _check_ports(record: Record, inputs: int, outputs: int, where: str) -> None:
    read = [one.input for one in record.arguments]
    given = [one.input for one in record.results if one.input is not None]
    traced = [one.output for one in record.results if one.output is not None]
    ok = (
        len(record.results) == outputs
        and all(0 <= index < inputs for index in (*read, *given))
        and len(set(read)) == len(read)
        and sorted(set(traced)) == list(range(len(set(traced))))
        and all((one.output is None) != (one.input is None) for one in record.results)
        and all(size >= 0 for one in record.arguments for size in one.shape)
    )
    if not ok:
        raise BundleError(
            "the Neuron artifact's arguments and results are not those of the segment",
            where=where,
            advice="build the bundle anew",
        )
