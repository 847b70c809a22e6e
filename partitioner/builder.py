"""The way of a build: capture, passes, plan, compile, parity, bundle.

A bundle for several targets has a member for each, and one with batch sizes for each of these, too.
The pipeline is captured once for all targets; all that comes after is done for each member, into
one directory, so that equal blobs are there once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from partitioner.artifacts.manifest import (
    Manifest,
    ParitySample,
)
from partitioner.artifacts.writer import BundleWriter
from partitioner.backendoptions import BackendOptions, check_options, check_stages
from partitioner.backends.base import CompileOptions
from partitioner.backends.worker import stop_worker
from partitioner.batching import Bucket, check_sizes, make_buckets, row_inputs
from partitioner.buffers import measure
from partitioner.caching.cache import CompileCache
from partitioner.caching.options import CacheOptions
from partitioner.caching.parity import check_parity
from partitioner.caching.parity_key import parity_key
from partitioner.choices import check_variants
from partitioner.compressing import check_quantize, complete, compress
from partitioner.engines import Engine, opened_engine
from partitioner.engines.crew import Crew
from partitioner.errors import UsageError
from partitioner.frontend import (
    prepare,
    require_backends,
    targets_of,
)
from partitioner.frontend import tune as tune_plan
from partitioner.job import Job
from partitioner.members import Member, in_turn
from partitioner.passes.pipeline import DEFAULT
from partitioner.phases import Phases, Progress, working_directory
from partitioner.planning.overrides import Overrides
from partitioner.precision import Precision, check_limits, hint_for
from partitioner.provenance import attested
from partitioner.provenance.source import source_file
from partitioner.quality import QualityBudget
from partitioner.recording import (
    check_labels,
    label_of,
    plain_options,
    portable_plan,
    report_of,
    toolchain,
    variants_of,
)
from partitioner.requirements import requirements_of
from partitioner.settings import Settings
from partitioner.specs import Image, Noise
from partitioner.step_batching import StepBuckets, check_step_sizes
from partitioner.targets import Target
from partitioner.targets.available import measurable
from partitioner.weights import Known, MappedBlobs

__all__ = ["BuildResult", "Progress", "build"]

Array = npt.NDArray[Any]

CONSTANTS_TYPE = "application/vnd.partitioner.constants.v1"

#: From this size on the compiler's process is ended before parity.
_LARGE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class BuildResult:
    """A finished build.

    Attributes:
        path: of the bundle.
        digest: its identity.
        report: loops found, what passes did, errors of parity, seconds of each phase, what the
            compile cache had. Where there are several targets, ``members`` has all but the seconds
            and the cache, by target.
    """

    path: Path
    digest: str
    report: dict[str, Any] = field(default_factory=dict[str, Any])


def build(
    module: Any,
    example_inputs: Mapping[str, Any],
    *,
    target: str | Target | Sequence[str | Target] = "cpu",
    backends: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    output: str | os.PathLike[str],
    inputs: Mapping[str, Image | Noise] | None = None,
    stages: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    variants: Sequence[Mapping[str, Any]] = (),
    name: str | None = None,
    version: str = "0",
    passes: str = DEFAULT,
    precision: Precision | None = None,
    tune: bool = False,
    accuracy_budget: float | None = None,
    quality_budget: QualityBudget | None = None,
    quantize: str | None = None,
    calibration: Sequence[Mapping[str, Any]] = (),
    parity: bool = True,
    tolerance: float | None = None,
    dump_passes: str | os.PathLike[str] | None = None,
    verify_passes: bool = False,
    timeout_s: float = 1800.0,
    memory_bytes: int | None = None,
    log: str | os.PathLike[str] | None = None,
    cache: CacheOptions | None = None,
    backend_options: BackendOptions | None = None,
    defer_compile: bool = False,
    overwrite: bool = False,
    source: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    batch: Sequence[int] = (),
    batched: Sequence[str] | None = None,
    engine: str | Engine = "local",
    jobs: int | None = None,
    step_batching: bool = False,
) -> BuildResult:
    """Build a bundle of a pipeline.

    Args:
        module: an ``nn.Module``, a callable over modules, or a diffusers pipeline.
        example_inputs: argument name -> tensor (or dict, list, dataclass of tensors). What is not
            a tensor is an option.
        target: a name of ``partition targets``, or a target of your own from
            :func:`partitioner.targets.find_target`; or several, for one bundle that runs on each.
        backends: instead of each target's own, in order of preference.
        overrides: stages and ops that go to a backend whatever the estimate says.
        output: the bundle's directory; must not exist unless ``overwrite``.
        inputs: how an input is made, where it is more than an array.
        stages: stage name -> attribute path.
        options: arguments that are fixed now (steps, guidance scale).
        variants: options of each schedule that a caller may choose from, such as
            ``[{"steps": 5}, {"steps": 20}]``: one bundle for all, whose segments and weights are
            shared. The first is taken if a caller chooses none.
        name, version: labels of the bundle; the name is the class's by default.
        passes: a pass pipeline; see ``partitioner.passes.pipeline``.
        precision: ``f32``, ``bf16`` or ``f16``, for all stages or each:
            ``{"": "bf16", "decoder": "f32"}``. Where the target does not compute in it, weights
            are stored in it.
        tune: measure parts of the pipeline on every backend that can run here (of ``backends``, or
            of all that are installed and for the target's devices), and place them by that instead
            of by estimates. Measurements are kept in the host's cache directory. Backends measure,
            too, what their settings leave open.
        accuracy_budget: compress weights to 4 or 8 bits as far as outputs, and results of
            segments, differ by no more than this, relative, on the example inputs.
        quality_budget: compress weights as far as results are good enough by the pipeline's own
            metric, instead; parity then allows outputs what the compression is off by.
        quantize: ``int8`` to compute products in 8 bits where a backend can (``openvino``), within
            the accuracy budget; segments that break it keep more.
        calibration: more example inputs, for the ranges that quantisation finds.
        parity: compare the bundle with the eager pipeline; without it the bundle has no sample.
        tolerance: relative, instead of the target's.
        dump_passes: a directory for the program before and after each pass, as text.
        verify_passes: run the program on the example inputs before and after every pass, and stop
            at a pass that changes the numbers.
        timeout_s: seconds that compiling one segment may take.
        memory_bytes: address space that compiling one segment may take.
        log: a file for the compilers' output; kept only if given.
        cache: how what other builds have found is used; by default as the environment says
            (``PARTITIONER_COMPILE_CACHE``), else the cache on this disk.
        backend_options: of the backends' compilers: ``{"neuron": {"optlevel": 1}}``.
        defer_compile: leave the last step of backends whose compiler may be elsewhere to
            ``partition compile``; the bundle cannot be loaded before.
        overwrite: replace an existing bundle.
        source: the file that made ``module``, for the bundle's provenance; that of its class by
            default.
        progress: called as the build goes on.
        batch: how many requests are served at once, such as ``[1, 4]``: a *bucket* for each, which
            share their weights; see ``docs/batches.md``.
        batched: the inputs that have a row for each request; all of them by default.
        engine: where segments are compiled: ``local`` or ``ray``; see
            ``docs/distributed-builds.md``. The bundle is the same.
        jobs: how many are compiled at a time at most; by default what there is room for.
        step_batching: make buckets in which requests at different steps of the loop share calls;
            see ``docs/scheduling.md``.

    Raises:
        PartitionerError: a subclass says what went wrong, where, and what to do. Nothing is left
            at ``output``; failed parity keeps its arrays in ``OUTPUT.parity``.
    """
    targets = targets_of(target, backends)
    if tune and backends is None:
        targets = tuple(measurable(hardware) for hardware in targets)
    for hardware in targets:
        require_backends(hardware, deferred=defer_compile)
    check_options(backend_options or {}, targets)
    check_limits(accuracy_budget, tolerance)
    budget = quality_budget if accuracy_budget is None else float(accuracy_budget)
    if quality_budget is not None and accuracy_budget is not None:
        raise UsageError(
            "an accuracy budget and a quality budget are given", advice="leave one of them out"
        )
    check_quantize(quantize, budget, len(calibration))
    label = name or label_of(module)
    check_labels(label, version)
    check_variants([dict(choice) for choice in variants] or [{}], example_inputs)
    compiled = CompileCache.open(cache or CacheOptions.from_environment(), label)
    phase = Phases(progress)
    settings = Settings(
        module,
        example_inputs,
        prepare_with={
            "overrides": overrides,
            "inputs": inputs,
            "stages": stages,
            "options": options,
            "variants": variants,
            "passes": passes,
            "precision": precision,
            "verify_passes": verify_passes,
        },
        label=label,
        version=version,
        tune=tune,
        budget=budget,
        quantize=quantize,
        calibration=complete(example_inputs, calibration),
        parity=parity,
        tolerance=tolerance,
        dump_passes=None if dump_passes is None else Path(dump_passes),
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        log=None if log is None else Path(log),
        cache=compiled,
        source=source_file(module) if source is None else Path(source),
        several=len(targets) > 1,
        backend_options=backend_options or {},
        defer_compile=defer_compile,
        step_batching=step_batching,
    )
    sizes = check_sizes(batch)
    if step_batching:
        check_step_sizes(sizes)
    names = row_inputs(example_inputs, batched) if sizes else ()
    with (
        BundleWriter(output, overwrite=overwrite) as writer,
        Crew(opened_engine(engine, jobs, measuring=tune)) as crew,
    ):
        with phase("capture"):
            if sizes:
                buckets = make_buckets(settings.capture, example_inputs, names, sizes)
            else:
                captures = tuple(settings.capture(example_inputs))
                buckets = (Bucket(dict(example_inputs), captures, None),)
        # Each target by itself: what it gives does not depend on which others there are.
        known = {hardware.name: Known() for hardware in targets}
        steps = {hardware.name: StepBuckets() for hardware in targets}
        members = (
            Member(
                _label(hardware, bucket, settings, len(sizes)),
                hardware.name if settings.several else "",
                _add_member(
                    settings,
                    hardware,
                    bucket,
                    writer,
                    phase,
                    known[hardware.name],
                    steps[hardware.name],
                    crew,
                ),
            )
            for hardware, bucket in itertools.product(targets, buckets)
        )
        # What is measured must have the machine to itself.
        reports = dict(in_turn(members, phase, ahead=crew.is_wide and not settings.tune))
        digest = writer.publish()
    report = {"members": reports} if len(reports) > 1 else next(iter(reports.values()))
    told = {} if compiled is None else compiled.finish()
    report = {**report, "seconds": phase.seconds, "cache": told}
    return BuildResult(writer.path, digest, report)


def _label(target: Target, bucket: Bucket, settings: Settings, sizes: int) -> str:
    """What tells a member from the others; nothing if there is but one."""
    parts = [target.name] if settings.several else []
    parts += [f"batch={bucket.rows}"] if sizes > 1 else []
    return " ".join(parts)


def _add_member(
    settings: Settings,
    hardware: Target,
    bucket: Bucket,
    writer: BundleWriter,
    phase: Phases,
    known: Known,
    steps: StepBuckets,
    crew: Crew,
) -> Generator[None, None, dict[str, Any]]:
    """Build for one target and batch; stops once, when its compilers run, for other members.

    Args:
        known: weights that the target's smaller buckets have written.
        steps: the target's smaller buckets, where requests are to share steps.

    Returns:
        the report.
    """
    example_inputs = bucket.example_inputs
    with working_directory() as workdir, crew.over_on_error():
        prepared = prepare(
            settings.module,
            example_inputs,
            target=hardware,
            observers=settings.dump_for(phase.target),
            phase=phase,
            captures=bucket.captures,
            **settings.prepare_for(bucket.rows),
        )
        prepared = replace(prepared, rows=bucket.rows)
        check_stages(settings.backend_options, prepared.planned.plan)
        compile_options = CompileOptions(
            workdir,
            writer.blobs_dir,
            settings.timeout_s,
            settings.memory_bytes,
            settings.log,
            hint_for(hardware, settings.precision),
            target=hardware,
            defer=settings.defer_compile,
            settings=settings.backend_options,
            tune=settings.tune,
        )
        if settings.tune:
            with phase("tune"):
                prepared = tune_plan(prepared, compile_options, phase.tell)
        if settings.budget is not None:
            with phase("compress"):
                prepared = compress(
                    prepared,
                    example_inputs,
                    settings.budget,
                    quantize=settings.quantize,
                    calibration=bucket.filled(settings.calibration),
                    timeout_s=settings.timeout_s,
                    memory_bytes=settings.memory_bytes,
                    log=settings.log,
                )
        mapped = MappedBlobs(writer.blob_path)
        job = Job(settings.module, bucket, prepared, writer, mapped, known, settings.cache, crew)
        with phase("compile", ends=False):
            job.start(compile_options)
        yield
        with phase("compile"):
            compilation = job.finish(phase)
            artifacts, prepared = compilation.artifacts, job.prepared
            planned, cases = prepared.planned, prepared.cases
            constants = [job.write_constants(case) for case in cases]
        if crew.is_idle and sum(blob.size for blob in writer.blobs.values()) > _LARGE_BYTES:
            # The worker's memory is wanted for the eager pipeline; starting another costs seconds.
            stop_worker()
        samples: list[ParitySample | None] = [None] * len(cases)
        errors: dict[str, Any] = {}
        if settings.parity:
            with phase("parity"):
                limit = settings.tolerance_on(hardware, artifacts, prepared.rounding)
                samples, errors = check_parity(
                    lambda: job.check(artifacts, limit),
                    lambda: parity_key(settings.module, bucket, job.prepared, artifacts, limit),
                    settings.cache,
                    writer,
                    settings.label,
                    workdir / "parity",
                )
        with phase("bundle"):
            job.drop_unread(artifacts)
            report = report_of(prepared, compilation)
            manifest = Manifest(
                name=settings.label,
                version=settings.version,
                target=hardware.name,
                inputs=prepared.program.inputs,
                outputs={n: planned.plan.values[v] for n, v in planned.plan.outputs.items()},
                plan=portable_plan(planned.plan),
                artifacts=artifacts,
                constants=constants[0],
                blobs=tuple(writer.blobs[digest] for digest in sorted(writer.blobs)),
                parity=samples[0],
                toolchain=toolchain(),
                options={
                    **plain_options(cases[0].options),
                    "passes": prepared.passes,
                    "target": hardware.name,
                    "placement": prepared.recipe,
                    **settings.recorded_budget,
                    **settings.recorded_options,
                    "quantize": settings.quantize,
                },
                report=report,
                variants=(
                    variants_of(cases, constants, samples)
                    if settings.prepare_with["variants"]
                    else ()
                ),
                memory=measure(planned.plan),
                requirements=requirements_of(hardware, artifacts, writer.blob_path),
                batch=bucket.batch,
            )
            if settings.step_batching:
                steps.check(manifest)
            full = attested(manifest, writer, settings.kinds, settings.source)
            writer.add_member(full, machine=next(iter(hardware.machine), ""))
    return {**report, "parity": errors}
