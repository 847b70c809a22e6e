"""The way of a build: what is asked is checked, the pipeline captured, every member built.

A bundle for several targets has a member for each, and one with batch sizes for each of these, too.
The pipeline is captured once for all targets; all that comes after is done for each member, into
one directory, so that equal blobs are there once; :mod:`partitioner.member_build` is that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partitioner.artifacts.writer import BundleWriter
from partitioner.backendoptions import BackendOptions, check_options
from partitioner.batching import (
    Bucket,
    Size,
    check_sizes,
    check_with_ranges,
    make_buckets,
    row_inputs,
)
from partitioner.caching.cache import CompileCache
from partitioner.caching.options import CacheOptions
from partitioner.choices import check_variants
from partitioner.compressing import check_quantize, complete, one_budget
from partitioner.engines import Engine, opened_engine
from partitioner.engines.crew import Crew
from partitioner.frontend import require_backends
from partitioner.member_build import MemberBuild, Workshop
from partitioner.members import Member, in_turn
from partitioner.passes.pipeline import DEFAULT
from partitioner.phases import Phases, Progress
from partitioner.planning.overrides import Overrides
from partitioner.precision import Precision, check_limits
from partitioner.provenance.source import source_file
from partitioner.quality import QualityBudget
from partitioner.recording import check_labels, label_of
from partitioner.settings import Settings
from partitioner.specs import Image, Noise
from partitioner.step_batching import StepBuckets, check_step_sizes
from partitioner.targets import Target
from partitioner.targets.available import measurable
from partitioner.targets.choice import targets_of
from partitioner.weights import Known

__all__ = ["BuildResult", "Progress", "build"]


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
    batch: Sequence[int | str] = (),
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
            share their weights; ``["1-8"]`` for one that serves any number of a range; see
            ``docs/batches.md``.
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
    targets = _checked_targets(target, backends, tune=tune, deferred=defer_compile)
    check_options(backend_options or {}, targets)
    check_limits(accuracy_budget, tolerance)
    budget = one_budget(accuracy_budget, quality_budget)
    check_quantize(quantize, budget, len(calibration))
    label = name or label_of(module)
    check_labels(label, version)
    check_variants([dict(choice) for choice in variants] or [{}], example_inputs)
    compressing = {"--accuracy-budget": accuracy_budget, "--quality-budget": quality_budget}
    asked = {"--tune": tune, **{name: one is not None for name, one in compressing.items()}}
    sizes = _checked_sizes(batch, asked, shares_steps=step_batching)
    names = row_inputs(example_inputs, batched) if sizes else ()
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
        cache=CompileCache.open(cache or CacheOptions.from_environment(), label),
        source=source_file(module) if source is None else Path(source),
        several=len(targets) > 1,
        backend_options=backend_options or {},
        defer_compile=defer_compile,
        step_batching=step_batching,
    )
    with (
        BundleWriter(output, overwrite=overwrite) as writer,
        Crew(opened_engine(engine, jobs, measuring=tune)) as crew,
    ):
        return _built(settings, targets, sizes, names, Workshop(writer, Phases(progress), crew))


def _checked_targets(
    target: str | Target | Sequence[str | Target],
    backends: Sequence[str] | None,
    *,
    tune: bool,
    deferred: bool,
) -> tuple[Target, ...]:
    """The targets, each with the backends that it is planned with and that can compile here."""
    targets = targets_of(target, backends)
    if tune and backends is None:
        targets = tuple(measurable(hardware) for hardware in targets)
    for hardware in targets:
        require_backends(hardware, deferred=deferred)
    return targets


def _checked_sizes(
    batch: Sequence[int | str], asked: Mapping[str, bool], *, shares_steps: bool
) -> tuple[Size, ...]:
    """The sizes of the buckets.

    Args:
        asked: option -> whether it is given, of those that a range may rule out.
        shares_steps: whether requests at different steps are to share calls.
    """
    sizes = check_sizes(batch)
    check_with_ranges(sizes, asked)
    if shares_steps:
        check_step_sizes(sizes)
    return sizes


def _built(
    settings: Settings,
    targets: Sequence[Target],
    sizes: Sequence[Size],
    names: Sequence[str],
    workshop: Workshop,
) -> BuildResult:
    """Build every member, and publish the bundle.

    Args:
        sizes: of the buckets; none for a bundle without.
        names: of the inputs that have rows.
    """
    writer, phase, crew = workshop.writer, workshop.phase, workshop.crew
    with phase("capture"):
        buckets = _buckets(settings, sizes, names)
    # Whether steps can be shared, and whether a range has a backend that takes it, is seen in all
    # plans before anything is compiled. What is measured must have the machine to itself.
    planned = settings.step_batching or any(bucket.span is not None for bucket in buckets)
    ahead = (crew.is_wide or planned) and not settings.tune
    members = _members(settings, targets, buckets, workshop)
    reports = dict(in_turn(members, phase, ahead=ahead))
    digest = writer.publish()
    report = {"members": reports} if len(reports) > 1 else next(iter(reports.values()))
    told = {} if settings.cache is None else settings.cache.finish()
    report = {**report, "seconds": phase.seconds, "cache": told}
    return BuildResult(writer.path, digest, report)


def _buckets(settings: Settings, sizes: Sequence[Size], names: Sequence[str]) -> tuple[Bucket, ...]:
    """The pipeline, captured with each number of rows, or as it is."""
    if sizes:
        return make_buckets(settings.capture, settings.example_inputs, names, sizes)
    captures = tuple(settings.capture(settings.example_inputs))
    return (Bucket(dict(settings.example_inputs), captures, None),)


def _members(
    settings: Settings,
    targets: Sequence[Target],
    buckets: Sequence[Bucket],
    workshop: Workshop,
) -> Iterator[Member]:
    """Each target's members, by their rows."""
    for hardware in targets:
        # Each target by itself: what it gives does not depend on which others there are.
        known, steps = Known(), StepBuckets()
        for bucket in buckets:
            own = MemberBuild(settings, hardware, bucket, known, steps, workshop)
            label = _label(hardware, bucket, settings, len(buckets))
            yield Member(label, hardware.name if settings.several else "", own.run())


def _label(target: Target, bucket: Bucket, settings: Settings, buckets: int) -> str:
    """What tells a member from the others; nothing if there is but one."""
    parts = [target.name] if settings.several else []
    parts += [f"batch={bucket.span or bucket.rows}"] if buckets > 1 else []
    return " ".join(parts)
