"""Parity: a bundle's numbers against the eager pipeline's.

The plan is run once with a reference for every segment (its own graph, run by torch), and beside it
what the backend made of the segment, on the same inputs: so the first segment that differs is the
one to blame, not one that got wrong inputs. Then the bundle is run as a whole and compared with the
eager pipeline on the same noise.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from partitioner.arrayfiles import write_npz
from partitioner.artifacts.manifest import (
    ConstantRef,
    Expected,
    ParitySample,
    SampleInput,
    SegmentExpected,
    Tolerance,
)
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.execution import Executable
from partitioner.errors import ParityError
from partitioner.plan import Plan
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment, run_segment
from partitioner.planning.tables import HostCall
from partitioner.runtime.compare import Difference, compare, sampled
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule
from partitioner.specs import TensorSpec
from partitioner.wholefiles import write_whole

__all__ = ["Checked", "check_outputs", "check_segments", "expected_of", "write_sample"]

Array = npt.NDArray[Any]

#: Media type of the blob with example inputs and expected values.
PARITY_TYPE = "application/vnd.partitioner.parity.v1"


@dataclass
class Checked:
    """What was found while checking segments.

    Attributes:
        samples: (segment, call) -> output name -> the expected array's samples.
        errors: segment -> largest relative error.
    """

    samples: dict[tuple[str, int], dict[str, Sampled]] = field(
        default_factory=dict[tuple[str, int], "dict[str, Sampled]"]
    )
    errors: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Sampled:
    """The gist of an expected array."""

    spec: TensorSpec
    norm: float
    values: npt.NDArray[np.float64]
    exact: bool


def expected_of(array: Array, *, exact: bool) -> Sampled:
    """The gist of an array."""
    flat = array.reshape(-1).astype(np.float64)
    return Sampled(
        TensorSpec(array.dtype.name, array.shape),
        float(np.linalg.norm(flat)),
        sampled(array),
        exact,
    )


# --- segments -----------------------------------------------------------------------------------


def check_segments(
    planned: Planned,
    constants: Mapping[str, torch.Tensor],
    compiled: Mapping[str, Executable],
    values: Mapping[str, Array],
    tolerance: Tolerance,
    evidence: Callable[[str, Mapping[str, Array]], Path],
    release: Callable[[], None],
) -> Checked:
    """Run the plan by its reference and check every segment's first call.

    Args:
        compiled: the bundle's executables.
        values: inputs, constants and draws by value id.
        evidence: keeps arrays of a failure and gives the file.
        release: gives back the memory of constants, after each segment that torch has run, so
            that the weights are not in memory three times over.

    Raises:
        ParityError: a segment differs; names it, its source lines and the kept evidence.
    """
    checked = Checked()
    after_host = _after_host(planned.plan)
    reference = {
        name: _Reference(
            name,
            segment,
            constants,
            compiled[name],
            planned,
            tolerance,
            checked,
            evidence,
            release,
            exact=name not in after_host,
        )
        for name, segment in planned.segments.items()
    }
    Run(reference, schedule(planned.plan), values).run()
    return checked


def _after_host(plan: Plan) -> set[str]:
    """Host segments: what they give may have another number of rows elsewhere."""
    return {
        name
        for name, info in plan.segments.items()
        if any(None in spec.shape for _, spec in info.outputs)
    }


class _Reference:
    """An executable that computes with torch, and checks the compiled one at its first call."""

    def __init__(
        self,
        name: str,
        segment: Segment | HostCall,
        constants: Mapping[str, torch.Tensor],
        compiled: Executable,
        planned: Planned,
        tolerance: Tolerance,
        checked: Checked,
        evidence: Callable[[str, Mapping[str, Array]], Path],
        release: Callable[[], None],
        *,
        exact: bool,
    ) -> None:
        info = planned.plan.segments[name]
        self.name, self.segment, self.compiled = name, segment, compiled
        self.constants, self.tolerance = constants, tolerance
        self.checked, self.evidence, self.exact = checked, evidence, exact
        self.info, self.release = info, release
        self.inputs, self.outputs = info.inputs, info.outputs
        self.calls = 0

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        results = self._compute(arrays)
        if self.calls == 0:
            self._check(arrays, results)
        self.calls += 1
        return results

    def bind(self) -> _BoundReference:
        return _BoundReference(self)

    def close(self) -> None:
        """Nothing is held."""

    def _compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        if isinstance(self.segment, HostCall):
            return self.compiled(*arrays)
        # Copies: torch cannot take read-only arrays, and inputs may be mapped constants.
        inputs = [torch.from_numpy(np.array(array)) for array in arrays]
        results = run_segment(self.segment, self.constants, inputs)
        arrays = tuple(r.detach().contiguous().numpy() for r in results)
        self.release()
        return arrays

    def _check(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        names = [name for name, _ in self.outputs]
        samples = {
            name: expected_of(array, exact=self.exact)
            for name, array in zip(names, results, strict=True)
        }
        self.checked.samples[self.name, 0] = samples
        actual = self.compiled(*arrays)
        worst = 0.0
        for name, array, want in zip(names, actual, results, strict=True):
            difference = _compare(samples[name], array, self.tolerance)
            worst = max(worst, difference.relative)
            if not difference.ok:
                kept = self.evidence(
                    self.name,
                    {
                        **{f"input.{k}": a for (k, _), a in zip(self.inputs, arrays, strict=True)},
                        f"expected.{name}": want,
                        f"actual.{name}": array,
                    },
                )
                raise _segment_error(self.info.name, self.info.sources, name, difference, kept)
        self.checked.errors[self.name] = worst


class _BoundReference:
    def __init__(self, reference: _Reference) -> None:
        self.reference = reference
        self.arrays: dict[int, Array] = {}
        self.targets: dict[int, Array | None] = {}

    def set_input(self, index: int, array: Array) -> None:
        self.arrays[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self.targets[index] = array

    def run(self) -> tuple[Array, ...]:
        results = list(self.reference(*(self.arrays[i] for i in range(len(self.arrays)))))
        for index, target in self.targets.items():
            if target is not None:
                target[...] = results[index]
                results[index] = target
        return tuple(results)


def _compare(want: Sampled, array: Array, tolerance: Tolerance) -> Difference:
    ref = ConstantRef("", 0, 0)
    expected = Expected(want.spec, want.norm, want.values.size, ref, want.exact)
    return compare(expected, want.values, array, tolerance)


def _segment_error(
    name: str, sources: Sequence[str], output: str, difference: Difference, kept: Path
) -> ParityError:
    what = difference.fault or f"differs by {difference.relative:.3g} relative"
    return ParityError(
        f"segment {name!r} does not give the numbers that torch gives for it: {output!r} {what}",
        where="; ".join(sources) or name,
        advice=f"the inputs and both results are kept in {kept}",
    )


# --- the whole ----------------------------------------------------------------------------------


def check_outputs(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    inexact: set[str],
    tolerance: Tolerance,
    evidence: Callable[[str, Mapping[str, Array]], Path],
) -> tuple[dict[str, Sampled], dict[str, float]]:
    """Compare the bundle's outputs with the eager pipeline's.

    Args:
        inexact: outputs of host ops.

    Returns:
        the gist of what is expected, and the relative errors, by output name.

    Raises:
        ParityError: an output differs, or eager itself gives NaN.
    """
    samples: dict[str, Sampled] = {}
    errors: dict[str, float] = {}
    for name, array in expected.items():
        _refuse_nan(name, array)
        samples[name] = expected_of(array, exact=name not in inexact)
        difference = _compare(samples[name], actual[name], tolerance)
        errors[name] = difference.relative
        if difference.ok:
            continue
        kept = evidence(name, {f"expected.{name}": array, f"actual.{name}": actual[name]})
        what = difference.fault or f"differs by {difference.relative:.3g} relative"
        raise ParityError(
            f"the bundle's output {name!r} is not the eager pipeline's: it {what}, although each "
            "segment agrees by itself",
            where=name,
            advice=f"a loop that amplifies rounding needs a wider tolerance (--tolerance); both "
            f"results are kept in {kept}",
        )
    return samples, errors


def _refuse_nan(name: str, array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise ParityError(
            f"the eager pipeline's own output {name!r} has {bad} NaN or infinite values of "
            f"{array.size}, so there is nothing to compare with",
            where=name,
            advice="give example inputs for which the pipeline works, check its weights, or build "
            "with --no-parity",
        )


# --- the sample in the bundle -------------------------------------------------------------------


def write_sample(
    writer: BundleWriter,
    seed: int,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Sampled],
    checked: Checked,
    tolerance: Tolerance,
) -> ParitySample:
    """Put inputs and expected values into one blob."""
    packed = _Packed()
    given = {
        name: SampleInput(TensorSpec(a.dtype.name, a.shape), packed.add(a))
        for name, a in inputs.items()
    }
    wanted = {name: packed.expected(s) for name, s in outputs.items()}
    segments = tuple(
        SegmentExpected(segment, call, {n: packed.expected(s) for n, s in samples.items()})
        for (segment, call), samples in checked.samples.items()
    )
    blob = writer.add_chunks(packed.chunks, PARITY_TYPE)
    sample = ParitySample(seed, given, wanted, segments, tolerance)
    return packed.placed(sample, blob.digest)


class _Packed:
    """Arrays one after the other; their blob's digest is known at the end."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []
        self.size = 0

    def add(self, array: Array) -> ConstantRef:
        data = np.ascontiguousarray(array).tobytes()
        padding = -self.size % 64
        self.chunks += [bytes(padding), data]
        ref = ConstantRef("", self.size + padding, len(data))
        self.size += padding + len(data)
        return ref

    def expected(self, want: Sampled) -> Expected:
        # JSON has no NaN; such a norm only occurs where a host op or segment makes one.
        norm = want.norm if math.isfinite(want.norm) else -1.0
        return Expected(want.spec, norm, want.values.size, self.add(want.values), want.exact)

    def placed(self, sample: ParitySample, digest: str) -> ParitySample:
        def ref(old: ConstantRef) -> ConstantRef:
            return dataclasses.replace(old, blob=digest)

        def outputs(old: Mapping[str, Expected]) -> dict[str, Expected]:
            return {n: dataclasses.replace(e, values=ref(e.values)) for n, e in old.items()}

        return dataclasses.replace(
            sample,
            inputs={n: dataclasses.replace(i, data=ref(i.data)) for n, i in sample.inputs.items()},
            outputs=outputs(sample.outputs),
            segments=tuple(
                dataclasses.replace(s, outputs=outputs(s.outputs)) for s in sample.segments
            ),
        )


def keep_evidence(directory: Path) -> Callable[[str, Mapping[str, Array]], Path]:
    """Keeps arrays of a failed check under ``directory``, one ``.npz`` a failure."""

    def keep(name: str, arrays: Mapping[str, Array]) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / f"{name}.npz"
        write_whole(target, lambda file: write_npz(file, arrays))
        shapes = {key: list(np.shape(value)) for key, value in arrays.items()}
        text = json.dumps(shapes, indent=2)
        write_whole(directory / f"{name}.json", lambda file: file.write(text.encode()))
        return target

    return keep
