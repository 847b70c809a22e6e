"""The later phases of a build of one member: compile, then parity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from partitioner.artifacts.manifest import (
    Artifact,
    Batch,
    Blob,
    ConstantRef,
    ParitySample,
    Tolerance,
)
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.batching import Bucket, with_rows
from partitioner.caching.cache import CompileCache
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.cases import Case
from partitioner.compiling import Compilation, Pending, SegmentCompiler, moved
from partitioner.eager import EagerSegment
from partitioner.engines.crew import Crew
from partitioner.frontend import PARITY_SEED, example_request
from partitioner.parity import Checked, check_outputs, check_segments, keep_evidence, write_sample
from partitioner.phases import Phases
from partitioner.plan import Plan
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.range_parity import bucket_at, named_by_row, prepared_at
from partitioner.row_parity import check_row, last_row
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule
from partitioner.specs import Noise
from partitioner.weights import Known, MappedBlobs, lay_out

__all__ = ["Job"]

Array = npt.NDArray[Any]


@dataclass
class Job:
    """What the later phases of one build share.

    Attributes:
        module: of the build.
        bucket: its example inputs, with what is a row of what.
        prepared: what is compiled; :meth:`finish` replaces it where backends changed.
        writer: of the bundle.
        mapped: its weights, mapped.
        known: weights that the target's smaller buckets have written.
        cache: what other builds have compiled; None for none.
        crew: runs what compiles, on an engine.
        laid_out: blobs of weights.
        read: blobs of constants that the plan itself reads.
    """

    module: Any
    bucket: Bucket
    prepared: Prepared
    writer: BundleWriter
    mapped: MappedBlobs
    known: Known
    cache: CompileCache | None
    crew: Crew
    laid_out: set[str] = field(default_factory=set[str])
    read: set[str] = field(default_factory=set[str])
    _pending: Pending = field(default_factory=dict[str, Any])
    _blobs: dict[str, Blob] = field(default_factory=dict[str, Blob])

    @property
    def batch(self) -> Batch | None:
        """What is a row of what, and for a range how values grow."""
        batch, span = self.bucket.batch, self.bucket.span
        if batch is None or span is None:
            return batch
        return replace(batch, least=span.least, growth=dict(self.planned.growth))

    @property
    def program(self) -> Program:
        return self.prepared.program

    @property
    def planned(self) -> Planned:
        return self.prepared.planned

    @property
    def compiler(self) -> SegmentCompiler:
        """Compiles this member's segments."""
        prepared = self.prepared
        return SegmentCompiler(
            prepared.target, prepared.judges, prepared.compilers, self.writer, self.cache, self.crew
        )

    def start(self, options: CompileOptions) -> None:
        """Write the weights, and begin to compile every segment; other members may come next."""
        constants, compiler = self.program.constants, self.compiler
        outside = compiler.outside(self.planned, constants)
        layout = lay_out(constants, outside, self.writer, self.known)
        self.laid_out = {ref.blob for ref in layout.values()}
        self._map_weights(layout)
        self._pending = compiler.start(self.planned, constants, layout, options)
        self._blobs, self.writer.blobs = self.writer.blobs, {}

    def finish(self, phase: Phases) -> Compilation:
        """Wait until every segment is compiled; the writer's blobs are this member's again."""
        self.writer.blobs, self._blobs = self._blobs, {}
        done = self.compiler.finish(self.planned, self._pending, phase.tell)
        self.prepared = moved(self.prepared, done.backends)
        return done

    def _map_weights(self, layout: Mapping[str, ConstantRef]) -> None:
        """Read the weights from their blobs from now on, so that folded copies can go."""
        for name, ref in layout.items():
            tensor = self.mapped.tensor(ref, self.program.constants[name])
            self.program.constants[name] = tensor
            self.known.add(name, self.writer.blobs[ref.blob], ref, tensor)

    def drop_unread(self, artifacts: Mapping[str, Artifact]) -> None:
        """Take out weights that are part of what was compiled, and that nothing else reads."""
        read = {digest for artifact in artifacts.values() for digest in artifact.weights}
        for digest in self.laid_out - read - self.read:
            self.writer.drop(digest)

    def write_constants(self, case: Case) -> dict[str, ConstantRef]:
        """Tables and initial values: the constants that the plan itself reads."""
        names = self.planned.constants
        tensors = {name: case.tensors[value] for value, name in names.items()}
        layout = lay_out(tensors, tensors, self.writer)
        self.read |= {ref.blob for ref in layout.values()}
        return {value: layout[name] for value, name in names.items()}

    # --- parity ---

    def check(
        self, artifacts: Mapping[str, Artifact], tolerance: Tolerance
    ) -> tuple[list[ParitySample | None], dict[str, Any]]:
        """Segments against torch, then the whole of every variant against the eager pipeline.

        For a range of batch sizes with the most rows, the fewest and a number between; samples are
        of the most.
        """
        samples, errors = self._check(artifacts, tolerance)
        batch, span = self.batch, self.bucket.span
        if batch is None or span is None:
            return samples, errors
        for rows in span.checked[1:]:
            at = replace(
                self,
                bucket=bucket_at(self.bucket, batch, rows),
                prepared=prepared_at(self.prepared, batch, rows),
            )
            _, own = at._check(artifacts, tolerance, keep=False)
            errors.setdefault("rows", {})[str(rows)] = own
        return samples, errors

    def _check(
        self, artifacts: Mapping[str, Artifact], tolerance: Tolerance, *, keep: bool = True
    ) -> tuple[list[ParitySample | None], dict[str, Any]]:
        """At the bucket's own rows.

        Args:
            keep: write samples.
        """
        evidence = keep_evidence(self.writer.path.with_name(f"{self.writer.path.name}.parity"))
        cases = self.prepared.cases
        executables: dict[str, Executable] = {}
        samples: list[ParitySample | None] = []
        errors: dict[str, Any] = {}
        try:
            for case in cases:
                given, values = example_request(self.prepared, case, self.bucket.example_inputs)
                drawn = self._drawn(case, values)
                expected = self._run_eager(case, self.bucket.example_inputs, given, drawn)
                if not keep and self.bucket.batch is not None and self.bucket.rows == 1:
                    expected = named_by_row(expected, self.bucket.batch)
                if not samples:
                    self._check_last_row(case, given, drawn, expected, tolerance)
                executables = executables or self._load(artifacts)
                checked = Checked()
                if not samples:
                    checked = check_segments(
                        self.planned,
                        self.program.constants,
                        executables,
                        values,
                        tolerance,
                        evidence,
                        self.mapped.release,
                    )
                    errors["segments"] = checked.errors
                actual = Run(executables, schedule(case.plan), values).run()
                found = self._compare(expected, actual, case.plan, tolerance, evidence)
                errors.setdefault("outputs", found[1])
                if len(cases) > 1:
                    errors.setdefault("variants", []).append({**case.choice, "outputs": found[1]})
                kept = {n: a for n, a in given.items() if self._is_kept(n)}
                if not keep:
                    samples.append(None)
                    continue
                samples.append(
                    write_sample(self.writer, PARITY_SEED, kept, found[0], checked, tolerance)
                )
        finally:
            for executable in executables.values():
                executable.close()
        return samples, errors

    def _compare(
        self,
        expected: Mapping[str, Array],
        actual: Mapping[str, Array],
        plan: Plan,
        tolerance: Tolerance,
        evidence: Any,
    ) -> tuple[dict[str, Any], dict[str, float]]:
        inexact = {n for n, v in plan.outputs.items() if None in plan.values[v].shape}
        return check_outputs(expected, actual, inexact, tolerance, evidence)

    def _is_kept(self, name: str) -> bool:
        drawn = {s.name for s in self.program.inputs if isinstance(s.how, Noise)}
        return name not in drawn and name in self.planned.plan.inputs

    def _check_last_row(
        self,
        case: Case,
        given: Mapping[str, Array],
        drawn: Mapping[str, Array],
        expected: Mapping[str, Array],
        tolerance: Tolerance,
    ) -> None:
        """Whether the eager pipeline gives a row of a bucket what it gives it alone."""
        batch = self.bucket.batch
        if batch is None or batch.rows == 1:
            return
        alone = self._run_eager(
            case,
            with_rows(self.bucket.example_inputs, batch.inputs, 1),
            {n: a[-1:] if n in batch.inputs else a for n, a in given.items()},
            last_row(drawn, case.draws),
        )
        check_row(batch, expected, alone, tolerance)

    def _drawn(self, case: Case, values: Mapping[str, Array]) -> dict[str, Array]:
        return {
            draw.placeholder: values[own.value]
            for sequence, group in zip(case.draws, case.plan.draws, strict=True)
            for draw, own in zip(sequence.draws, group.draws, strict=True)
        }

    def _run_eager(
        self,
        case: Case,
        example_inputs: Mapping[str, Any],
        given: Mapping[str, Array],
        drawn: Mapping[str, Array],
    ) -> dict[str, Array]:
        return run_eager(
            self.module,
            example_inputs,
            options=case.options,
            values=given,
            drawn=drawn_in_order(case.draws, drawn),
        )

    def _load(self, artifacts: Mapping[str, Artifact]) -> dict[str, Executable]:
        # Low memory: the eager pipeline's weights are still there.
        device = DeviceOptions(
            memory="low", host_ops=tuple(self.program.host_ops.values()), cache=False
        )
        loaded: dict[str, Executable] = {}
        for name, artifact in artifacts.items():
            info, segment = self.planned.plan.segments[name], self.planned.segments[name]
            if artifact.is_deferred and isinstance(segment, Segment):
                loaded[name] = EagerSegment(segment, self.program.constants, info)
                continue
            files = ArtifactFiles(
                graph=self.writer.blob_path(artifact.graph) if artifact.graph else None,
                blobs_dir=self.writer.blobs_dir,
                weights=tuple(self.writer.blob_path(w) for w in artifact.weights),
                options=artifact.options,
                info=info,
            )
            loaded[name] = find_backend(artifact.backend).make_executor().load(files, device)
        return loaded
