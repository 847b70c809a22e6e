"""Checks the Neuron segments of a plan without Neuron's SDK.

1. The module that the tracer would be given is lowered to StableHLO by torch-mlir, and every
   instruction of it is held against the documented operators, dtypes and limits of neuronx-cc.
2. The plan is run by torch on the example inputs; what went into each Neuron segment at its first
   call goes into its StableHLO, too, on the CPU by IREE. The results must be torch's.

Both run in the compilers' worker. Weights are arguments, in blobs that are mapped.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.graphs import identifier, to_json
from partitioner.backends.lifting import lifted_names
from partitioner.backends.neuron.hlo_check import Finding, HloReport
from partitioner.backends.worker import run_job
from partitioner.errors import CompileError
from partitioner.planning.segments import Segment
from partitioner.reference import Kept, Recorder
from partitioner.weights import Layout, lay_out

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["TOLERANCE", "SegmentCheck", "SegmentJob", "check_segments"]

#: Relative error that a segment's StableHLO may have.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class SegmentCheck:
    """What was found about one segment.

    Attributes:
        name: of the segment.
        report: of its StableHLO; None if it could not be lowered.
        limit: instructions that the target allows; None if there is no limit.
        error: relative to torch, the largest of its outputs; None if it was not run.
        failure: why it was not lowered or not run; empty otherwise.
        source: the user's line of that, if it is known.
    """

    name: str
    report: HloReport | None = None
    limit: int | None = None
    error: float | None = None
    failure: str = ""
    source: str = ""

    @property
    def passed(self) -> bool:
        """Lowered, run, right, and nothing in it that a source refuses."""
        refused = self.report is None or any(one.refused for one in self.report.findings)
        right = self.error is not None and self.error <= TOLERANCE
        return right and not refused and not self.failure


def check_segments(
    segments: Mapping[str, Segment],
    constants: Mapping[str, torch.Tensor],
    target: Target,
    calls: Callable[[], Mapping[str, Recorder]],
    *,
    timeout_s: float = 1800.0,
) -> list[SegmentCheck]:
    """Check segments of the backend ``neuron``.

    Args:
        segments: by name.
        constants: of the program.
        target: for its limits.
        calls: runs the plan by torch; gives the calls of all segments that were kept, by name.
            Asked for if anything could be lowered.
        timeout_s: seconds for each of the two jobs of a segment.

    Raises:
        OutputError: there is no space for the weights.
        BackendError: torch itself fails on the example inputs.
    """
    with (
        tempfile.TemporaryDirectory(prefix="partitioner-") as folder,
        BundleWriter(Path(folder) / "weights") as writer,
    ):
        limit = target.limits["neuron"].instructions if "neuron" in target.limits else None
        jobs = {
            name: SegmentJob(one, constants, limit, Path(folder) / identifier(name), timeout_s)
            for name, one in segments.items()
        }
        found = {name: job.lower() for name, job in jobs.items()}
        lowered = [name for name, check in found.items() if check.report is not None]
        outside = {one for name in lowered for one in lifted_names(segments[name], constants)}
        layout = lay_out(constants, outside, writer)
        given = calls() if lowered else {}
        for name in lowered:
            call = next(iter(given[name].calls), None)
            found[name] = jobs[name].run(found[name], call, layout, writer.blobs_dir)
    return list(found.values())


@dataclass
class SegmentJob:
    """The two jobs of one segment.

    Attributes:
        limit: of instructions, if there is one.
        directory: of its own, made by :meth:`lower`; what is lowered lies there in ``module.mlir``.
    """

    segment: Segment
    constants: Mapping[str, torch.Tensor]
    limit: int | None
    directory: Path
    timeout_s: float

    def lower(self) -> SegmentCheck:
        """Lower the segment and check its instructions."""
        limit, lifted = self.limit, lifted_names(self.segment, self.constants)
        document = {"graph": to_json(self.segment.graph, self.constants, lifted), "limit": limit}
        self.directory.mkdir(parents=True)
        (self.directory / "job.json").write_text(json.dumps(document))
        try:
            value = self._run_job("lower_segment")
        except CompileError as error:
            return SegmentCheck(
                self.segment.name, limit=limit, failure=error.what, source=error.where or ""
            )
        return SegmentCheck(self.segment.name, _report(value["report"]), limit)

    def run(
        self, check: SegmentCheck, call: Kept | None, layout: Layout, blobs_dir: Path
    ) -> SegmentCheck:
        """Run what was lowered on what went into a call of the segment, and compare.

        Args:
            check: what :meth:`lower` found.
            call: None where there was none.
            layout: where the weights lie in ``blobs_dir``.
        """
        if call is None:
            return replace(check, failure="the plan does not call it on the example inputs")
        lifted = lifted_names(self.segment, self.constants)
        places = {name: layout[name] for name in sorted(lifted)}
        document = {
            "weights": {n: [hex_of(p.blob), p.offset, p.nbytes] for n, p in places.items()},
            "blobs_dir": str(blobs_dir),
        }
        (self.directory / "run.json").write_text(json.dumps(document))
        inputs: dict[str, Any] = {str(i): array for i, array in enumerate(call.given)}
        np.savez(self.directory / "inputs.npz", allow_pickle=False, **inputs)
        try:
            self._run_job("run_segment")
        except CompileError as error:
            return replace(check, failure=error.what, source=error.where or "")
        with np.load(self.directory / "results.npz", allow_pickle=False) as file:
            results = [file[str(index)] for index in range(len(file.files))]
        return replace(check, error=_error(call.results, results))

    def _run_job(self, function: str) -> Any:
        (self.directory / "result.json").unlink(missing_ok=True)
        return run_job(
            f"partitioner.backends.neuron.segment_jobs:{function}",
            self.directory,
            what=f"the check of segment {self.segment.name!r}",
            where=self.segment.where,
            timeout_s=self.timeout_s,
        )


def _report(document: Any) -> HloReport:
    findings: list[Finding] = []
    for one in document["findings"]:
        fields: dict[str, Any] = {**one, "sources": tuple(one["sources"])}
        findings.append(Finding(**fields))
    return HloReport(document["opcodes"], tuple(findings), document["instructions"])


def _error(expected: Sequence[Any], actual: Sequence[Any]) -> float:
    """The largest relative error; infinite where numbers of outputs, shapes or NaNs differ."""
    if len(expected) != len(actual):
        return math.inf
    return max((_relative(*pair) for pair in zip(expected, actual, strict=True)), default=0.0)


def _relative(expected: Any, actual: Any) -> float:
    if expected.shape != actual.shape or expected.dtype.kind != actual.dtype.kind:
        return math.inf
    want, have = expected.astype(np.float64), actual.astype(np.float64)
    # Infinities, such as those of masks, have no distance.
    finite = np.isfinite(want)
    if not np.array_equal(want[~finite], have[~finite], equal_nan=True):
        return math.inf
    error = float(np.linalg.norm(want[finite] - have[finite]))
    scale = float(np.linalg.norm(want[finite]))
    relative = error / scale if scale else error
    return relative if math.isfinite(relative) else math.inf
