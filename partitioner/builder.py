"""The way of a build: capture, passes, plan, compile, parity, bundle."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from partitioner.artifacts.manifest import (
    Artifact,
    ConstantRef,
    Manifest,
    ParitySample,
    Tolerance,
)
from partitioner.artifacts.writer import BundleWriter, as_output_errors
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.backends.worker import stop_worker
from partitioner.buffers import measure
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.compiling import Compilation, SegmentCompiler, moved
from partitioner.compressing import check_quantize, compress
from partitioner.frontend import (
    PARITY_SEED,
    Case,
    Prepared,
    example_request,
    prepare,
    require_backends,
    target_of,
)
from partitioner.frontend import tune as tune_plan
from partitioner.parity import (
    Checked,
    check_outputs,
    check_segments,
    keep_evidence,
    write_sample,
)
from partitioner.passes.pipeline import (
    DEFAULT,
    dump_to,
)
from partitioner.plan import Plan
from partitioner.planning.overrides import Overrides
from partitioner.planning.plan import Planned
from partitioner.precision import Precision, check_limits, hint_for, tolerance_of
from partitioner.program import Program
from partitioner.recording import (
    check_labels,
    label_of,
    plain_options,
    portable_plan,
    report_of,
    toolchain,
    variants_of,
)
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule
from partitioner.specs import Image, Noise
from partitioner.targets import Target
from partitioner.weights import MappedBlobs, lay_out

__all__ = ["BuildResult", "Progress", "build"]

Array = npt.NDArray[Any]

#: Called with (phase, done, total); phases are those of the module's first line.
Progress = Callable[[str, int, int], None]

CONSTANTS_TYPE = "application/vnd.partitioner.constants.v1"

#: From this size on the compiler's process is ended before parity.
_LARGE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class BuildResult:
    """A finished build.

    Attributes:
        path: of the bundle.
        digest: its identity.
        report: loops found, what passes did, errors of parity, seconds of each phase.
    """

    path: Path
    digest: str
    report: dict[str, Any] = field(default_factory=dict[str, Any])


def build(
    module: Any,
    example_inputs: Mapping[str, Any],
    *,
    target: str | Target = "cpu",
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
    quantize: str | None = None,
    calibration: Sequence[Mapping[str, Any]] = (),
    parity: bool = True,
    tolerance: float | None = None,
    dump_passes: str | os.PathLike[str] | None = None,
    verify_passes: bool = False,
    timeout_s: float = 1800.0,
    memory_bytes: int | None = None,
    log: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a bundle of a pipeline.

    Args:
        module: an ``nn.Module``, a callable over modules, or a diffusers pipeline.
        example_inputs: argument name -> tensor (or dict, list, dataclass of tensors). What is not
            a tensor is an option.
        target: a name of ``partition targets``, or a target of your own from
            :func:`partitioner.targets.find_target`.
        backends: instead of the target's own, in order of preference.
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
        tune: measure parts of the pipeline on every backend that can run here, and place them by
            that instead of by estimates. Measurements are kept in the host's cache directory.
        accuracy_budget: compress weights to 4 or 8 bits as far as outputs, and results of
            segments, differ by no more than this, relative, on the example inputs.
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
        overwrite: replace an existing bundle.
        progress: called as the build goes on.

    Raises:
        PartitionerError: a subclass says what went wrong, where, and what to do. Nothing is left
            at ``output``; failed parity keeps its arrays in ``OUTPUT.parity``.
    """
    hardware = target_of(target, backends)
    require_backends(hardware)
    check_limits(accuracy_budget, tolerance)
    check_quantize(quantize, accuracy_budget, len(calibration))
    label = name or label_of(module)
    check_labels(label, version)
    phase = _Phases(progress)
    with BundleWriter(output, overwrite=overwrite) as writer, _workdir(writer) as workdir:
        observers = [dump_to(Path(dump_passes))] if dump_passes else []
        prepared = prepare(
            module,
            example_inputs,
            target=hardware,
            overrides=overrides,
            inputs=inputs,
            stages=stages,
            options=options,
            variants=variants,
            passes=passes,
            precision=precision,
            verify_passes=verify_passes,
            observers=observers,
            phase=phase,
        )
        if tune:
            with phase("tune"):
                prepared = tune_plan(prepared, timeout_s, phase.tell)
        if accuracy_budget is not None:
            with phase("compress"):
                prepared = compress(
                    prepared,
                    example_inputs,
                    accuracy_budget,
                    quantize=quantize,
                    calibration=calibration,
                    timeout_s=timeout_s,
                    memory_bytes=memory_bytes,
                    log=Path(log) if log else None,
                )
        planned, cases = prepared.planned, prepared.cases
        compile_options = CompileOptions(
            workdir,
            writer.blobs_dir,
            timeout_s,
            memory_bytes,
            Path(log) if log else None,
            hint_for(hardware, precision),
        )
        mapped = MappedBlobs(writer.blob_path)
        job = _Job(module, example_inputs, prepared, writer, mapped)
        with phase("compile"):
            compilation = job.compile(compile_options, phase)
            artifacts, prepared = compilation.artifacts, job.prepared
            planned, cases = prepared.planned, prepared.cases
            constants = [job.write_constants(case) for case in cases]
        if sum(blob.size for blob in writer.blobs.values()) > _LARGE_BYTES:
            # The worker's memory is wanted for the eager pipeline; starting another costs seconds.
            stop_worker()
        samples: list[ParitySample | None] = [None] * len(cases)
        errors: dict[str, Any] = {}
        if parity:
            with phase("parity"):
                # Of what the segments compute in, which may be less than what was asked for.
                computed = [tolerance_of(a.options.get("precision")) for a in artifacts.values()]
                rounding = max(tolerance_of(precision), accuracy_budget or 0.0, *computed)
                allowed = max(hardware.relative, rounding)
                relative = allowed if tolerance is None else tolerance
                limit = Tolerance(relative, hardware.absolute)
                samples, errors = job.check(artifacts, limit)
        with phase("bundle"):
            report = report_of(prepared, compilation)
            manifest = Manifest(
                name=label,
                version=version,
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
                    "accuracy_budget": accuracy_budget,
                    "quantize": quantize,
                },
                report=report,
                variants=variants_of(cases, constants, samples) if variants else (),
                memory=measure(planned.plan),
            )
            digest = writer.commit(manifest)
    return BuildResult(writer.path, digest, {**report, "parity": errors, "seconds": phase.seconds})


# --- phases -------------------------------------------------------------------------------------


class _Phases:
    """Times phases and tells about them."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.name = ""

    @contextmanager
    def __call__(self, name: str) -> Generator[None, None, None]:
        self.name = name
        self.tell(0, 1)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.tell(1, 1)

    def tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.name, done, total)


@contextmanager
def _workdir(writer: BundleWriter) -> Generator[Path, None, None]:
    """A directory for files on the way, gone at the end whatever happens."""
    path = Path(tempfile.mkdtemp(prefix="partitioner-"))
    try:
        with as_output_errors(path):
            yield path
    except BaseException as error:
        # Whatever ends the build from outside must not leave a compiler running.
        if not isinstance(error, Exception):
            stop_worker()
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class _Job:
    """What the later phases of one build share."""

    module: Any
    example_inputs: Mapping[str, Any]
    prepared: Prepared
    writer: BundleWriter
    mapped: MappedBlobs

    @property
    def program(self) -> Program:
        return self.prepared.program

    @property
    def planned(self) -> Planned:
        return self.prepared.planned

    def compile(self, options: CompileOptions, phase: _Phases) -> Compilation:
        """Write the weights, then compile every segment."""
        prepared = self.prepared
        compiler = SegmentCompiler(
            prepared.target, prepared.judges, prepared.compilers, self.writer
        )
        constants = self.program.constants
        layout = lay_out(constants, compiler.outside(self.planned, constants), self.writer)
        self._map_weights(layout)
        done = compiler.compile(self.planned, constants, layout, options, phase.tell)
        self.prepared = moved(prepared, done.backends)
        return done

    def _map_weights(self, layout: Mapping[str, ConstantRef]) -> None:
        """Read the weights from their blobs from now on, so that folded copies can go."""
        for name, ref in layout.items():
            tensor = self.program.constants[name]
            self.program.constants[name] = self.mapped.tensor(ref, tensor)

    def write_constants(self, case: Case) -> dict[str, ConstantRef]:
        """Tables and initial values: the constants that the plan itself reads."""
        names = self.planned.constants
        tensors = {name: case.tensors[value] for value, name in names.items()}
        layout = lay_out(tensors, tensors, self.writer)
        return {value: layout[name] for value, name in names.items()}

    # --- parity ---

    def check(
        self, artifacts: Mapping[str, Artifact], tolerance: Tolerance
    ) -> tuple[list[ParitySample | None], dict[str, Any]]:
        """Segments against torch, then the whole of every variant against the eager pipeline."""
        evidence = keep_evidence(self.writer.path.with_name(f"{self.writer.path.name}.parity"))
        cases = self.prepared.cases
        executables: dict[str, Executable] = {}
        samples: list[ParitySample | None] = []
        errors: dict[str, Any] = {}
        try:
            for case in cases:
                given, values = example_request(self.prepared, case, self.example_inputs)
                expected = self._run_eager(case, given, values)
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

    def _run_eager(
        self, case: Case, given: Mapping[str, Array], values: Mapping[str, Array]
    ) -> dict[str, Array]:
        drawn = {
            draw.placeholder: values[own.value]
            for sequence, group in zip(case.draws, case.plan.draws, strict=True)
            for draw, own in zip(sequence.draws, group.draws, strict=True)
        }
        return run_eager(
            self.module,
            self.example_inputs,
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
            files = ArtifactFiles(
                graph=self.writer.blob_path(artifact.graph) if artifact.graph else None,
                blobs_dir=self.writer.blobs_dir,
                weights=tuple(self.writer.blob_path(w) for w in artifact.weights),
                options=artifact.options,
                info=self.planned.plan.segments[name],
            )
            loaded[name] = find_backend(artifact.backend).make_executor().load(files, device)
        return loaded
