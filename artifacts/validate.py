"""Whether a manifest agrees with itself. The runtime relies on each of these checks.

``validate_plan.py`` has those of the plan.
"""

from __future__ import annotations

import itertools
import re

from partitioner.artifacts.digest import check_digest
from partitioner.artifacts.faults import damaged, shown
from partitioner.artifacts.manifest import (
    Artifact,
    ConstantRef,
    Expected,
    Manifest,
    ParitySample,
    Requirement,
)
from partitioner.artifacts.names import (
    check_id,
    check_label,
    check_spec,
    check_text,
    nbytes_of,
)
from partitioner.artifacts.validate_batch import validate_batch
from partitioner.artifacts.validate_plan import check_memory, validate_plan
from partitioner.artifacts.validate_variants import validate_variants
from partitioner.specs import Image, InputSpec, TensorSpec, itemsize

__all__ = ["MAX_SAMPLES", "check_parity", "check_ref", "validate"]

#: Numbers kept of an expected tensor.
MAX_SAMPLES = 2**20

#: Requirements of a manifest.
MAX_REQUIREMENTS = 100

_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,9}\Z")


def validate(manifest: Manifest) -> None:
    """Check everything that refers to something else.

    Raises:
        BundleError: says what contradicts what.
    """
    _check_labels(manifest)
    _check_blobs(manifest)
    rows = 1 if manifest.batch is None else manifest.batch.rows
    for spec in manifest.inputs:
        _check_input(spec, rows)
    validate_plan(manifest.plan)
    _check_signature(manifest)
    _check_artifacts(manifest)
    _check_constants(manifest)
    if manifest.parity is not None:
        check_parity(manifest, manifest.parity)
    validate_variants(manifest)
    validate_batch(manifest)
    if manifest.memory is not None:
        check_memory(manifest.plan, manifest.memory, "the bundle")


def check_ref(manifest: Manifest, ref: ConstantRef, spec: TensorSpec, what: str) -> None:
    """Refuse a reference to data that are not there, or not those of the tensor.

    Raises:
        BundleError: undeclared blob, bytes outside of it, another size than the tensor's, or not
            aligned to its numbers.
    """
    blob = manifest.blobs_by_digest.get(check_digest(ref.blob))
    if blob is None:
        raise damaged(f"{what} lies in the blob {ref.blob}, which is not declared")
    if ref.offset < 0 or ref.nbytes < 0 or ref.offset + ref.nbytes > blob.size:
        raise damaged(
            f"{what} takes {ref.nbytes} bytes from {ref.offset} of a blob of {blob.size} bytes"
        )
    check_spec(spec, what)
    if ref.nbytes != nbytes_of(spec):
        raise damaged(f"{what} has {ref.nbytes} bytes, but {spec} takes {nbytes_of(spec)}")
    if ref.offset % itemsize(spec.dtype):
        raise damaged(f"{what} at {ref.offset} is not aligned to {spec.dtype}")


def _check_labels(manifest: Manifest) -> None:
    for what in ("name", "version", "target"):
        check_label(getattr(manifest, what), f"the bundle's {what}")
    _check_requirements(manifest)
    for tool, version in manifest.toolchain.items():
        check_text(tool, "a name in the toolchain")
        check_text(version, f"the version of {tool}")


def _check_requirements(manifest: Manifest) -> None:
    if len(manifest.requirements) > MAX_REQUIREMENTS:
        raise damaged(f"{len(manifest.requirements)} requirements; at most {MAX_REQUIREMENTS}")
    for one in manifest.requirements:
        what = f"the requirement {shown(one.name)}"
        check_label(one.kind, f"the kind of {what}")
        check_label(one.name, "a requirement")
        for text in (one.at_least, one.below, one.reason):
            check_text(text, what)
        if one.kind == "library":
            _check_library(one, what)
        if one.kind == "instructions" and not one.at_least:
            raise damaged(f"{what} names no level")


def _check_library(requirement: Requirement, what: str) -> None:
    # Name and versions are looked up, and stand in a command that people are told to run.
    versions = [text for text in (requirement.at_least, requirement.below) if text]
    if _DISTRIBUTION.match(requirement.name) is None:
        raise damaged(f"{what} is no distribution's name")
    if not all(_VERSION.match(text) for text in versions):
        raise damaged(f"{what} has a malformed version")


def _check_blobs(manifest: Manifest) -> None:
    for blob in manifest.blobs:
        check_digest(blob.digest)
        check_text(blob.media_type, "a media type")
        if blob.size < 0:
            raise damaged(f"the blob {blob.digest} has a negative size")
    for one, other in itertools.pairwise(manifest.blobs):
        if one.digest >= other.digest:
            raise damaged(f"the blobs are not sorted, or one is declared twice: {other.digest}")


# --- inputs and outputs -------------------------------------------------------------------------


def _check_input(spec: InputSpec, rows: int) -> None:
    check_label(spec.name, "an input")
    what = f"input {spec.name!r}"
    check_spec(spec.tensor, what)
    if isinstance(spec.how, Image):
        _check_image(spec.tensor, spec.how, what, rows)
    elif spec.how is not None and not spec.tensor.dtype.startswith("float"):
        raise damaged(f"{what} is noise, but {spec.tensor}")


def _check_image(tensor: TensorSpec, image: Image, what: str, rows: int) -> None:
    wanted = (rows, len(image.mean), *image.size)
    if tensor.shape != wanted or not tensor.dtype.startswith("float"):
        raise damaged(f"{what} is an image of the shape {list(wanted)}, but {tensor}")
    if len(image.std) != len(image.mean) or not all(image.std) or 0 in wanted:
        raise damaged(f"{what} is an image that cannot be normalised: {image}")


def _check_signature(manifest: Manifest) -> None:
    plan = manifest.plan
    inputs = {spec.name: spec for spec in manifest.inputs}
    if len(inputs) != len(manifest.inputs):
        raise damaged("an input is declared twice")
    used = {name for name, spec in inputs.items() if spec.used}
    if set(plan.inputs) != used:
        raise damaged("the plan's inputs are not the inputs declared as used")
    for name, value in plan.inputs.items():
        if plan.values[value] != inputs[name].tensor:
            raise damaged(f"input {name!r} and its value disagree")
    if list(plan.outputs) != list(manifest.outputs):
        raise damaged("the plan's outputs are not the outputs declared")
    for name, value in plan.outputs.items():
        check_label(name, "an output")
        if plan.values[value] != manifest.outputs[name]:
            raise damaged(f"output {name!r} and its value disagree")


# --- data ---------------------------------------------------------------------------------------


def _check_artifacts(manifest: Manifest) -> None:
    segments = manifest.plan.segments
    strays = sorted(set(segments) ^ set(manifest.artifacts))
    if strays:
        raise damaged(f"a segment without artifact, or an artifact without: {shown(strays[0])}")
    for name, artifact in manifest.artifacts.items():
        if segments[name].backend != artifact.backend:
            raise damaged(f"segment {name!r} and its artifact are of different backends")
        _check_artifact(manifest, artifact, f"segment {name!r}")


def _check_artifact(manifest: Manifest, artifact: Artifact, what: str) -> None:
    check_id(artifact.backend, f"the backend of {what}")
    graph = () if artifact.graph is None else (artifact.graph,)
    for digest in (*graph, *artifact.weights):
        if check_digest(digest) not in manifest.blobs_by_digest:
            raise damaged(f"{what} needs the blob {digest}, which is not declared")


def _check_constants(manifest: Manifest) -> None:
    wanted = set(manifest.plan.constants)
    strays = sorted(wanted ^ set(manifest.constants))
    if strays:
        raise damaged(f"a constant without data, or data without constant: {shown(strays[0])}")
    for value, ref in manifest.constants.items():
        check_ref(manifest, ref, manifest.plan.values[value], f"constant {value!r}")


# --- parity -------------------------------------------------------------------------------------


def check_parity(manifest: Manifest, sample: ParitySample) -> None:
    """Refuse a sample of other inputs, outputs or segments than the bundle has.

    Raises:
        BundleError: says which.
    """
    if sample.seed < 0 or sample.tolerance.relative < 0 or sample.tolerance.absolute < 0:
        raise damaged("the parity sample has a negative seed or tolerance")
    inputs = {spec.name for spec in manifest.inputs}
    for name, given in sample.inputs.items():
        if name not in inputs:
            raise damaged(
                f"the parity sample has the input {shown(name)}, which the bundle has not"
            )
        check_ref(manifest, given.data, given.spec, f"the parity sample's input {name!r}")
    _check_expected(manifest, sample.outputs, set(manifest.outputs), "the bundle")
    seen: set[tuple[str, int]] = set()
    for expected in sample.segments:
        segment = manifest.plan.segments.get(expected.segment)
        if segment is None or expected.call < 0 or (expected.segment, expected.call) in seen:
            raise damaged(
                f"the parity sample has call {expected.call} of {shown(expected.segment)}, which "
                "does not occur or occurs twice"
            )
        seen.add((expected.segment, expected.call))
        outputs = {name for name, _ in segment.outputs}
        _check_expected(manifest, expected.outputs, outputs, f"segment {expected.segment!r}")


def _check_expected(
    manifest: Manifest, outputs: dict[str, Expected], known: set[str], owner: str
) -> None:
    for name, expected in outputs.items():
        if name not in known:
            raise damaged(f"the parity sample expects {shown(name)} of {owner}, which has no such")
        what = f"the parity sample's {name!r} of {owner}"
        check_spec(expected.spec, what)
        nbytes_of(expected.spec)
        if not 0 <= expected.count <= MAX_SAMPLES:
            raise damaged(f"{what} keeps {expected.count} numbers")
        if expected.norm < 0 and expected.norm != -1:
            raise damaged(f"{what} has the norm {expected.norm}")
        check_ref(manifest, expected.values, TensorSpec("float64", (expected.count,)), what)
