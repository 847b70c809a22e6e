"""Whether a manifest agrees with itself. The runtime relies on each of these."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

import numpy as np

from partitioner.artifacts.digest import check_digest
from partitioner.artifacts.manifest import ConstantRef, Expected, Manifest
from partitioner.errors import BundleError
from partitioner.plan import Call, Loop, Plan, Step
from partitioner.specs import DTYPES, TensorSpec

__all__ = ["nbytes_of", "validate"]

_MAX_TRIPS = 10**6
_MAX_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9_.:/\[\]<>-]{1,200}\Z")


def validate(manifest: Manifest) -> None:
    """Check everything that refers to something else.

    Raises:
        BundleError: says what contradicts what.
    """
    _check_blobs(manifest)
    _check_values(manifest.plan)
    _check_artifacts(manifest)
    for value, ref in manifest.constants.items():
        spec = manifest.plan.values.get(value)
        if spec is None or value not in manifest.plan.constants:
            _refuse(f"the constant {value!r} is no constant of the plan")
        _check_ref(manifest, ref, spec, f"constant {value!r}")
    for value in manifest.plan.constants:
        if value not in manifest.constants:
            _refuse(f"the plan's constant {value!r} has no data")
    _check_plan(manifest)
    _check_parity(manifest)


def nbytes_of(spec: TensorSpec) -> int:
    """Bytes of a tensor whose dimensions are all known."""
    count = 1
    for dim in spec.shape:
        if not isinstance(dim, int):
            _refuse(f"{spec} has a dimension that is not a number")
        count *= dim
    size = 2 if spec.dtype == "bfloat16" else np.dtype(spec.dtype).itemsize
    return count * size


def _refuse(what: str) -> NoReturn:
    raise BundleError(
        what, advice="the bundle is damaged or was not made by partitioner; fetch or build it anew"
    )


def _check_blobs(manifest: Manifest) -> None:
    seen: set[str] = set()
    for blob in manifest.blobs:
        check_digest(blob.digest)
        if blob.digest in seen:
            _refuse(f"the blob {blob.digest} is declared twice")
        if blob.size < 0:
            _refuse(f"the blob {blob.digest} has a negative size")
        seen.add(blob.digest)


def _check_spec(spec: TensorSpec, what: str) -> None:
    if spec.dtype not in DTYPES:
        _refuse(f"{what} has the unknown dtype {spec.dtype[:40]!r}")
    if len(spec.shape) > 16:
        _refuse(f"{what} has {len(spec.shape)} dimensions")
    for dim in spec.shape:
        if isinstance(dim, int) and not 0 <= dim < 2**40:
            _refuse(f"{what} has a dimension of {dim}")


def _check_values(plan: Plan) -> None:
    for name, spec in plan.values.items():
        if _NAME.match(name) is None:
            _refuse(f"{name[:_MAX_NAME]!r} is not a value id")
        _check_spec(spec, f"value {name!r}")


def _check_ref(manifest: Manifest, ref: ConstantRef, spec: TensorSpec, what: str) -> None:
    sizes = {blob.digest: blob.size for blob in manifest.blobs}
    if check_digest(ref.blob) not in sizes:
        _refuse(f"{what} lies in the blob {ref.blob}, which is not declared")
    if ref.offset < 0 or ref.nbytes < 0 or ref.offset + ref.nbytes > sizes[ref.blob]:
        _refuse(f"{what} reaches beyond its blob")
    _check_spec(spec, what)
    if ref.nbytes != nbytes_of(spec):
        _refuse(f"{what} has {ref.nbytes} bytes, but {spec} takes {nbytes_of(spec)}")


def _check_artifacts(manifest: Manifest) -> None:
    declared = {blob.digest for blob in manifest.blobs}
    segments, artifacts = set(manifest.plan.segments), set(manifest.artifacts)
    if segments != artifacts:
        _refuse(f"segments without artifact, or artifacts without: {sorted(segments ^ artifacts)}")
    for name, artifact in manifest.artifacts.items():
        info = manifest.plan.segments[name]
        if info.name != name or info.backend != artifact.backend:
            _refuse(f"segment {name!r} and its artifact disagree on name or backend")
        digests = [*artifact.weights, *([artifact.graph] if artifact.graph else [])]
        for digest in digests:
            if check_digest(digest) not in declared:
                _refuse(f"segment {name!r} needs the blob {digest}, which is not declared")
        for tensor, spec in (*info.inputs, *info.outputs):
            _check_spec(spec, f"segment {name!r}, tensor {tensor!r}")


def _check_plan(manifest: Manifest) -> None:
    plan = manifest.plan
    declared = {spec.name: spec for spec in manifest.inputs}
    if len(declared) != len(manifest.inputs):
        _refuse("an input is declared twice")
    used = {name for name, spec in declared.items() if spec.used}
    if set(plan.inputs) != used:
        _refuse("the plan's inputs are not the manifest's used inputs")
    written: set[str] = set()
    for name, value in plan.inputs.items():
        _write(plan, written, [value])
        if plan.values[value] != declared[name].tensor:
            _refuse(f"input {name!r} and its value disagree")
    _write(plan, written, plan.constants)
    _check_draws(plan, written)
    _check_steps(plan, plan.steps, written)
    if list(plan.outputs) != list(plan.outputs) or set(plan.outputs) != set(manifest.outputs):
        _refuse("the plan's outputs are not the manifest's outputs")
    for name, value in plan.outputs.items():
        _read(written, [value], f"output {name!r}")
        if plan.values[value] != manifest.outputs[name]:
            _refuse(f"output {name!r} and its value disagree")


def _write(plan: Plan, written: set[str], values: Iterable[str]) -> None:
    for value in values:
        if value not in plan.values:
            _refuse(f"the plan writes {value!r}, which has no type")
        if value in written:
            _refuse(f"the plan writes {value!r} twice")
        written.add(value)


def _read(written: set[str], values: Iterable[str], who: str) -> None:
    for value in values:
        if value not in written:
            _refuse(f"{who} reads {value!r} before it is written")


def _check_draws(plan: Plan, written: set[str]) -> None:
    for group in plan.draws:
        if not 1 <= group.repeat <= _MAX_TRIPS:
            _refuse(f"draws are repeated {group.repeat} times")
        _write(plan, written, [draw.value for draw in group.draws])
        for draw in group.draws:
            shape = plan.values[draw.value].shape
            if draw.row and (not shape or shape[0] != group.repeat):
                _refuse(f"the draw {draw.value!r} has not {group.repeat} rows")
            if not draw.row and group.repeat != 1:
                _refuse(f"the draw {draw.value!r} is repeated, but not by rows")
            if not all(isinstance(dim, int) for dim in shape):
                _refuse(f"the draw {draw.value!r} has no fixed shape")


def _check_steps(plan: Plan, steps: tuple[Step, ...], written: set[str]) -> None:
    for step in steps:
        if isinstance(step, Call):
            _check_call(plan, step, written)
        else:
            _check_loop(plan, step, written)


def _check_call(plan: Plan, step: Call, written: set[str]) -> None:
    info = plan.segments.get(step.segment)
    if info is None:
        _refuse(f"the plan calls the segment {step.segment[:80]!r}, which it does not have")
    _read(written, step.inputs, f"segment {step.segment!r}")
    _write(plan, written, step.outputs)
    pairs = ((step.inputs, info.inputs), (step.outputs, info.outputs))
    for values, tensors in pairs:
        if len(values) != len(tensors):
            _refuse(f"segment {step.segment!r} is called with {len(values)} values")
        for value, (name, spec) in zip(values, tensors, strict=True):
            if plan.values[value] != spec:
                _refuse(
                    f"segment {step.segment!r}, tensor {name!r}: {spec}, but the plan gives "
                    f"{value!r}: {plan.values[value]}"
                )


def _check_loop(plan: Plan, step: Loop, written: set[str]) -> None:
    if not 1 <= step.trips <= _MAX_TRIPS:
        _refuse(f"the loop {step.name[:80]!r} makes {step.trips} trips")
    _read(written, [c.init for c in step.carries], f"loop {step.name!r}")
    _read(written, [s.source for s in step.slices], f"loop {step.name!r}")
    inside = set(written)
    _write(plan, inside, [c.inner for c in step.carries])
    _write(plan, inside, [s.inner for s in step.slices])
    _check_steps(plan, step.body, inside)
    _read(inside, [c.next for c in step.carries], f"loop {step.name!r}")
    _read(inside, [s.inner for s in step.stacked], f"loop {step.name!r}")
    _write(plan, written, [c.final for c in step.carries if c.final is not None])
    _write(plan, written, [s.result for s in step.stacked])
    _check_loop_types(plan, step)
    # Ids are unique in the whole plan, so what the body wrote is taken for good.
    written_inside = inside - written
    if written_inside & written:
        _refuse(f"the loop {step.name!r} writes a value twice")


def _check_loop_types(plan: Plan, step: Loop) -> None:
    values = plan.values
    for carry in step.carries:
        same = [carry.init, carry.inner, carry.next, *([carry.final] if carry.final else [])]
        if len({values[value] for value in same}) != 1:
            _refuse(f"the loop {step.name!r} carries values of different types")
    rows = [(s.source, s.inner) for s in step.slices] + [(s.result, s.inner) for s in step.stacked]
    for stacked, inner in rows:
        wanted = TensorSpec(values[inner].dtype, (step.trips, *values[inner].shape))
        if values[stacked] != wanted:
            _refuse(f"the loop {step.name!r}: {stacked!r} is {values[stacked]}, not {wanted}")


def _check_parity(manifest: Manifest) -> None:
    if manifest.parity is None:
        return
    for name, sample in manifest.parity.inputs.items():
        _check_ref(manifest, sample.data, sample.spec, f"parity input {name!r}")
    _check_expected(manifest, manifest.parity.outputs, "parity")
    for segment in manifest.parity.segments:
        if segment.segment not in manifest.plan.segments:
            _refuse(f"parity names the segment {segment.segment[:80]!r}")
        _check_expected(manifest, segment.outputs, f"parity of {segment.segment!r}")


def _check_expected(manifest: Manifest, outputs: dict[str, Expected], what: str) -> None:
    for name, expected in outputs.items():
        _check_spec(expected.spec, f"{what}, {name!r}")
        spec = TensorSpec("float64", (expected.count,))
        _check_ref(manifest, expected.values, spec, f"{what}, {name!r}")
