"""The build of one member of a bundle: passes, plan, compile, parity, manifest.

A member is for one target and one number of requests; :mod:`partitioner.builder` captures the
pipeline before, and publishes the bundle in the end.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from partitioner.artifacts.manifest import ConstantRef, Manifest, ParitySample
from partitioner.artifacts.writer import BundleWriter
from partitioner.backendoptions import check_stages
from partitioner.backends.base import CompileOptions
from partitioner.backends.worker import stop_worker
from partitioner.batching import Bucket
from partitioner.buffers import measure
from partitioner.caching.parity import check_parity
from partitioner.caching.parity_key import parity_key
from partitioner.compiling import Compilation
from partitioner.compressing import compress
from partitioner.engines.crew import Crew
from partitioner.frontend import prepare
from partitioner.job import Job
from partitioner.phases import Phases, working_directory
from partitioner.precision import hint_for
from partitioner.prepared import Prepared
from partitioner.provenance import attested
from partitioner.range_parity import check_backends
from partitioner.recording import plain_options, portable_plan, report_of, toolchain, variants_of
from partitioner.replanning import tune as tune_plan
from partitioner.requirements import requirements_of
from partitioner.runtime.scheduling.alignment import only_loop
from partitioner.settings import Settings
from partitioner.step_batching import StepBuckets
from partitioner.targets import Target
from partitioner.weights import Known, MappedBlobs

__all__ = ["MemberBuild", "Workshop"]

#: From this size on the compiler's process is ended before parity.
_LARGE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Workshop:
    """What the members of one build share.

    Attributes:
        writer: of the bundle.
        phase: what is done now, for who is told.
        crew: runs what compiles.
    """

    writer: BundleWriter
    phase: Phases
    crew: Crew


@dataclass(frozen=True)
class MemberBuild:
    """One member of a build.

    Attributes:
        settings: of the build.
        hardware: its target.
        bucket: the captured pipeline with its rows.
        known: weights that the target's smaller buckets have written.
        steps: the target's smaller buckets, where requests are to share steps.
        workshop: what all members share.
    """

    settings: Settings
    hardware: Target
    bucket: Bucket
    known: Known
    steps: StepBuckets
    workshop: Workshop

    def run(self) -> Generator[None, None, dict[str, Any]]:
        """Build; stops once, when the member's compilers run, for other members.

        Returns:
            the report.

        Raises:
            PartitionerError: as :func:`partitioner.builder.build`.
        """
        settings, shop = self.settings, self.workshop
        with working_directory() as workdir, shop.crew.over_on_error():
            options = self._compile_options(workdir)
            prepared = self._prepared(options)
            if settings.step_batching:
                self.steps.check(prepared)
            mapped = MappedBlobs(shop.writer.blob_path)
            job = Job(
                settings.module,
                self.bucket,
                prepared,
                shop.writer,
                mapped,
                self.known,
                settings.cache,
                shop.crew,
            )
            with shop.phase("compile", ends=False):
                job.start(options)
            yield
            with shop.phase("compile"):
                compilation = job.finish(shop.phase)
                constants = [job.write_constants(case) for case in job.prepared.cases]
            samples, errors = self._checked(job, compilation, workdir)
            with shop.phase("bundle"):
                job.drop_unread(compilation.artifacts)
                report = report_of(job.prepared, compilation)
                manifest = self._manifest(job, compilation, constants, samples, report)
                self._add(manifest)
        return {**report, "parity": errors}

    def _compile_options(self, workdir: Path) -> CompileOptions:
        settings = self.settings
        return CompileOptions(
            workdir,
            self.workshop.writer.blobs_dir,
            settings.timeout_s,
            settings.memory_bytes,
            settings.log,
            hint_for(self.hardware, settings.precision),
            target=self.hardware,
            defer=settings.defer_compile,
            settings=settings.backend_options,
            tune=settings.tune,
        )

    def _prepared(self, options: CompileOptions) -> Prepared:
        """The program, planned: by estimates or as measured, with compressed weights if asked."""
        settings, bucket, phase = self.settings, self.bucket, self.workshop.phase
        prepared = prepare(
            settings.module,
            bucket.example_inputs,
            target=self.hardware,
            observers=settings.dump_for(phase.target),
            phase=phase,
            **settings.prepare_for(bucket),
        )
        prepared = replace(prepared, rows=bucket.rows)
        check_backends(prepared.planned)
        if settings.step_batching:
            # What tuning and compression take minutes for has its loop already.
            only_loop(prepared.planned.plan)
        check_stages(settings.backend_options, prepared.planned.plan)
        if settings.tune:
            with phase("tune"):
                prepared = tune_plan(prepared, options, phase.tell)
        budget = settings.budget_for(bucket)
        if budget is None:
            return prepared
        with phase("compress"):
            return compress(
                prepared,
                bucket.example_inputs,
                budget,
                quantize=settings.quantize,
                calibration=bucket.filled(settings.calibration),
                batch=bucket.batch,
                timeout_s=settings.timeout_s,
                memory_bytes=settings.memory_bytes,
                log=settings.log,
            )

    def _checked(
        self, job: Job, compilation: Compilation, workdir: Path
    ) -> tuple[list[ParitySample | None], dict[str, Any]]:
        """Samples of all variants, and the errors; without parity, none."""
        settings, shop = self.settings, self.workshop
        artifacts, prepared = compilation.artifacts, job.prepared
        written = sum(blob.size for blob in shop.writer.blobs.values())
        if shop.crew.is_idle and written > _LARGE_BYTES:
            # The worker's memory is wanted for the eager pipeline; starting another costs seconds.
            stop_worker()
        if not settings.parity:
            return [None] * len(prepared.cases), {}
        with shop.phase("parity"):
            limit = settings.tolerance_on(self.hardware, artifacts, prepared.rounding)
            return check_parity(
                lambda: job.check(artifacts, limit),
                lambda: parity_key(settings.module, self.bucket, prepared, artifacts, limit),
                settings.cache,
                shop.writer,
                settings.label,
                workdir / "parity",
            )

    def _manifest(
        self,
        job: Job,
        compilation: Compilation,
        constants: Sequence[dict[str, ConstantRef]],
        samples: Sequence[ParitySample | None],
        report: dict[str, Any],
    ) -> Manifest:
        settings, blobs = self.settings, self.workshop.writer.blobs
        prepared, artifacts = job.prepared, compilation.artifacts
        plan, cases = prepared.planned.plan, prepared.cases
        variants = variants_of(cases, constants, samples) if settings.has_variants else ()
        return Manifest(
            name=settings.label,
            version=settings.version,
            target=self.hardware.name,
            inputs=prepared.program.inputs,
            outputs={name: plan.values[value] for name, value in plan.outputs.items()},
            plan=portable_plan(plan),
            artifacts=artifacts,
            constants=constants[0],
            blobs=tuple(blobs[digest] for digest in sorted(blobs)),
            parity=samples[0],
            toolchain=toolchain(),
            options={
                **plain_options(cases[0].options),
                **settings.recorded(prepared.passes, self.hardware.name, prepared.recipe),
            },
            report=report,
            variants=variants,
            memory=measure(plan),
            requirements=requirements_of(self.hardware, artifacts, self.workshop.writer.blob_path),
            batch=job.batch,
        )

    def _add(self, manifest: Manifest) -> None:
        """Write the manifest, with what tells how it was made."""
        settings, writer = self.settings, self.workshop.writer
        full = attested(manifest, writer, settings.kinds, settings.source)
        writer.add_member(full, machine=next(iter(self.hardware.machine), ""))
