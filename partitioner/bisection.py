"""Find out where a bundle goes wrong: which pass, which segment, which node.

1. Capture the model again as the bundle was built, and run the captured program beside the eager
   pipeline (is capture right?) and before and after each pass (are the passes?).
2. Compare plan and weights with the bundle's: this must be the model that it was built from.
3. Run the bundle's segments one by one on torch's values: the first that differs is wrong.
4. Compile the segment again, whole. If that is right, the bundle's own graph is at fault, and the
   first of its nodes is named that gives another value than the new graph's.
5. Else compile parts of it that end after some node (:mod:`partitioner.planning.cuts`), and close
   in on the first node whose value differs.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.manifest import ConstantRef, Tolerance
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import find_backend
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.backends.onnx.differences import first_difference
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.errors import ModelError, ParityError, PassError
from partitioner.findings import Finding, place_of_node
from partitioner.hostops import HostOp
from partitioner.interpreter import run_graph, run_program
from partitioner.parity import check_segments
from partitioner.passes.base import Pass
from partitioner.passes.checked import check_passes
from partitioner.passes.pipeline import Observer
from partitioner.placeholders import placeholder_values
from partitioner.planning.cuts import first_failing, ops_of
from partitioner.planning.segments import Segment
from partitioner.precision import allowed_error
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.quality import Metric
from partitioner.rebuilding import budget_of, check_plan, prepared_again
from partitioner.recompiling import Recompiler, WrongValue
from partitioner.runtime.compare import Difference, compare_gists, gist_of
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule
from partitioner.specs import Image, Noise
from partitioner.targets import find_target
from partitioner.weights import lay_out

__all__ = ["bisect_bundle"]

Array = npt.NDArray[Any]


def bisect_bundle(
    bundle: Bundle,
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    *,
    inputs: Mapping[str, Image | Noise] | None = None,
    stages: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    host_ops: Iterable[HostOp] = (),
    calibration: Sequence[Mapping[str, Any]] = (),
    quality: Metric | None = None,
    quality_inputs: Sequence[Mapping[str, Any]] = (),
    target_files: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
) -> Finding:
    """Find where a bundle's numbers leave those of the eager pipeline.

    Args:
        pipeline, example_inputs, inputs, stages, options: those of the build.
        host_ops: host ops that are not installed.
        calibration: the build's, where it quantised.
        quality, quality_inputs: the build's, where it had a quality budget.
        target_files: files of targets, if the build's was one of them.
        seed: of the noise, for a bundle without a parity sample.

    Raises:
        ModelError: this is not the model that the bundle was built from.
        BundleError: the bundle is damaged.
        PartitionerError: as a build.
    """
    bundle.check()
    manifest = bundle.manifest
    sample = manifest.parity
    budget = budget_of(manifest, quality, quality_inputs)
    try:
        prepared = prepared_again(
            manifest,
            pipeline,
            example_inputs,
            inputs=inputs,
            stages=stages,
            options=options,
            budget=budget,
            calibration=calibration,
            target=find_target(manifest.target, target_files),
            observer=_checking(example_inputs, sample.seed if sample else seed),
        )
    except PassError as error:
        return Finding("pass", error.what, error.exit_code, source=error.where or "")
    target, captured = prepared.target, prepared.captured.program
    rounding = budget if isinstance(budget, float) else prepared.rounding
    allowed = allowed_error(target, manifest.artifacts, budget=rounding)
    tolerance = sample.tolerance if sample else Tolerance(allowed, target.absolute)
    values = placeholder_values(captured, example_inputs, sample.seed if sample else seed)
    with (
        tempfile.TemporaryDirectory(prefix="partitioner-") as name,
        BundleWriter(Path(name) / "weights") as writer,
    ):
        search = _Search(bundle, prepared, tolerance, values, writer, Path(name), tuple(host_ops))
        return search.run(pipeline, example_inputs)


def _checking(example_inputs: Mapping[str, Any], seed: int) -> Observer:
    """Check the passes on values that are made once the captured program is known."""
    check: list[Observer] = []

    def observe(before: Program, one: Pass | None, after: Program) -> None:
        if one is None:
            check[:] = [check_passes(placeholder_values(before, example_inputs, seed))]
        check[0](before, one, after)

    return observe


@dataclass
class _Search:
    """One bundle being looked at.

    Attributes:
        values: placeholder of the main graph -> tensor.
    """

    bundle: Bundle
    prepared: Prepared
    tolerance: Tolerance
    values: dict[str, torch.Tensor]
    writer: BundleWriter
    folder: Path
    host_ops: tuple[HostOp, ...]
    layout: dict[str, ConstantRef] = field(default_factory=dict[str, ConstantRef])

    def run(self, pipeline: Any, example_inputs: Mapping[str, Any]) -> Finding:
        check_plan(self.bundle.manifest.plan, self.prepared.planned.plan)
        self._check_weights()
        expected = self._outputs_of_torch()
        found = self._check_capture(pipeline, example_inputs, expected)
        return found or self._check_bundle(expected)

    # --- is it the model, and is it captured rightly ---------------------------------------------

    def _check_weights(self) -> None:
        """Lay the weights out as a build does, and compare the blobs' digests."""
        planned, constants = self.prepared.planned, self.prepared.program.constants
        outside: set[str] = set()
        for segment in planned.segments.values():
            if isinstance(segment, Segment):
                outside |= self.prepared.compilers[segment.backend].outside(segment, constants)
        self.layout = lay_out(constants, outside, self.writer)
        have = {blob for a in self.bundle.manifest.artifacts.values() for blob in a.weights}
        for name, ref in self.layout.items():
            if ref.blob not in have:
                raise ModelError(
                    f"the model's weights are not the bundle's: those around {name!r} differ",
                    advice="give the model with the weights and seed that the bundle was built "
                    "with",
                )

    def _outputs_of_torch(self) -> dict[str, Array]:
        results = run_program(self.prepared.captured.program, self.values)
        return {name: value.numpy() for name, value in results.items()}

    def _check_capture(
        self,
        pipeline: Any,
        example_inputs: Mapping[str, Any],
        expected: Mapping[str, Array],
    ) -> Finding | None:
        arrays = {name: value.numpy() for name, value in self.values.items()}
        program = self.prepared.captured.program
        eager = run_eager(
            pipeline,
            example_inputs,
            options=self.prepared.cases[0].options,
            values=arrays,
            drawn=drawn_in_order(program.draws, arrays),
        )
        for name, array in eager.items():
            difference = self._compare(array, expected[name], exact=self._is_exact(name))
            if not difference.ok:
                return self._finding(
                    "capture",
                    f"the captured program's output {name!r} is not the eager pipeline's",
                    difference,
                )
        return None

    def _is_exact(self, output: str) -> bool:
        plan = self.bundle.manifest.plan
        return None not in plan.values[plan.outputs[output]].shape

    # --- the bundle -----------------------------------------------------------------------------

    def _check_bundle(self, expected: Mapping[str, Array]) -> Finding:
        plan, planned = self.prepared.planned.plan, self.prepared.planned
        constants = self.prepared.program.constants
        values = {value: self.values[name].numpy() for name, value in self._placeholders().items()}
        values |= {v: constants[name].contiguous().numpy() for v, name in planned.constants.items()}
        executables = {name: self._load(name) for name in plan.segments}
        failed: dict[str, Mapping[str, Array]] = {}

        def keep(name: str, arrays: Mapping[str, Array]) -> Path:
            failed[name] = arrays
            return self.folder

        try:
            check_segments(planned, constants, executables, values, self.tolerance, keep, _nothing)
            actual = Run(executables, schedule(plan), values).run()
            return self._check_outputs(expected, actual)
        except ParityError:
            name, arrays = next(iter(failed.items()))
            return self._in_segment(name, arrays)
        finally:
            for executable in executables.values():
                executable.close()

    def _placeholders(self) -> dict[str, str]:
        """Placeholder -> value id, of inputs and draws."""
        plan, program = self.prepared.planned.plan, self.prepared.program
        drawn = {
            draw.placeholder: own.value
            for sequence, group in zip(program.draws, plan.draws, strict=True)
            for draw, own in zip(sequence.draws, group.draws, strict=True)
        }
        return {**plan.inputs, **drawn}

    def _load(self, name: str) -> Executable:
        artifact = self.bundle.manifest.artifacts[name]
        files = ArtifactFiles(
            graph=self.bundle.blob_path(artifact.graph) if artifact.graph else None,
            blobs_dir=self.bundle.blobs_dir,
            weights=tuple(self.bundle.blob_path(digest) for digest in artifact.weights),
            options=artifact.options,
            info=self.bundle.manifest.plan.segments[name],
        )
        own = tuple(self.prepared.program.host_ops.values())
        device = DeviceOptions(memory="low", host_ops=(*self.host_ops, *own))
        return find_backend(artifact.backend).make_executor().load(files, device)

    def _check_outputs(self, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> Finding:
        for name, array in expected.items():
            difference = self._compare(array, actual[name], exact=self._is_exact(name))
            if not difference.ok:
                return self._finding(
                    "whole",
                    f"every segment is right, but output {name!r} is not: the pipeline amplifies "
                    "rounding, and needs a wider tolerance (--tolerance)",
                    difference,
                )
        return Finding("healthy", "the bundle gives torch's numbers here", 0)

    # --- in a segment ---------------------------------------------------------------------------

    def _in_segment(self, name: str, arrays: Mapping[str, Array]) -> Finding:
        segment = self.prepared.planned.segments[name]
        if not isinstance(segment, Segment):
            sources = self.prepared.planned.plan.segments[name].sources
            what = f"the host op of segment {name!r} does not give the same numbers twice"
            return Finding("segment", what, segment=name, source=next(iter(sources), ""))
        given = {k.removeprefix("input."): a for k, a in arrays.items() if k.startswith("input.")}
        manifest = self.bundle.manifest
        compiler = Recompiler(
            self.prepared.compilers[segment.backend],
            self.prepared.program.constants,
            self.layout,
            self.writer,
            self.folder,
            target=self.prepared.target,
            precision=str(manifest.artifacts[name].options.get("precision", "f32")),
            settings=manifest.options.get("backend_options", {}),
        )
        ops = ops_of(segment)
        wrong: dict[int, WrongValue] = {}

        def fails(count: int) -> bool:
            found = compiler.first_wrong(segment, count, given, self.tolerance)
            if found is not None:
                wrong[count] = found
            return found is not None

        if not fails(len(ops)):
            return self._in_graph(name, segment, given, compiler)
        value = wrong[first_failing(len(ops), fails)]
        finding = self._finding(
            "node",
            f"node {value.node.name!r} ({value.node.target}) of segment {name!r} is the first that "
            "the backend computes otherwise than torch",
            value.difference,
        )
        return replace(finding, **place_of_node(name, value.node), compiled=compiler.compiled)

    def _in_graph(
        self, name: str, segment: Segment, given: Mapping[str, Array], compiler: Recompiler
    ) -> Finding:
        """Compiled again the segment is right: compare the bundle's graph with the new one."""
        what = (
            f"compiled again here, segment {name!r} is right: the bundle's own graph is not what "
            "this version makes of it"
        )
        artifact, tolerance = self.bundle.manifest.artifacts[name], self.tolerance
        found = None
        if artifact.backend == "onnx" and artifact.graph and compiler.graph:
            found = first_difference(
                compiler.graph,
                self.writer.blobs_dir,
                self.bundle.blob_path(artifact.graph),
                self.bundle.blobs_dir,
                given,
                tolerance,
            )
        if found is None:
            finding = Finding("segment", what, segment=name, tolerance=tolerance.relative)
            return replace(finding, source="; ".join(segment.sources), compiled=compiler.compiled)
        node = _with_value(
            segment, self.prepared.program.constants, given, found.expected, tolerance
        )
        turned = "" if found.op == found.expected_op else f", for {found.expected_op}"
        finding = self._finding(
            "graph",
            f"{what}; its first wrong value is {found.value!r} (the operator {found.op}{turned})",
            found.difference,
        )
        place = {"segment": name} if node is None else place_of_node(name, node)
        return replace(finding, **place, compiled=compiler.compiled)

    # --- findings -------------------------------------------------------------------------------

    def _compare(self, expected: Array, actual: Array, *, exact: bool = True) -> Difference:
        return compare_gists(gist_of(expected), gist_of(actual), self.tolerance, exact=exact)

    def _finding(self, kind: str, what: str, difference: Difference) -> Finding:
        size = difference.fault or f"differs by {difference.relative:.3g} relative"
        return Finding(
            kind,
            f"{what} ({size})",
            error=difference.relative if math.isfinite(difference.relative) else None,
            tolerance=self.tolerance.relative,
        )


def _nothing() -> None:
    """Mapped memory is not given back: the constants here are the model's own."""


def _with_value(
    segment: Segment,
    constants: Mapping[str, torch.Tensor],
    given: Mapping[str, Array],
    value: Array,
    tolerance: Tolerance,
) -> fx.Node | None:
    """The first node of a segment that has this value, in whatever shape."""
    wanted, found = gist_of(value.reshape(-1)), list[fx.Node]()

    def watch(graph: str, trip: int | None, node: fx.Node, have: Any) -> None:
        if node.op != "call_function" or not isinstance(have, torch.Tensor):
            return
        if not found and have.numel() == value.size:
            gist = gist_of(have.numpy().reshape(-1))
            if compare_gists(wanted, gist, tolerance).ok:
                found.append(node)

    inputs = [torch.from_numpy(np.array(given[name])) for name in segment.inputs]
    program = Program(main=segment.graph, constants=dict(constants))
    run_graph(program, "main", inputs, watch=watch)
    return found[0] if found else None
