"""Find settings under which a converted segment compiles and runs, by trying in other processes.

Each rung gives up a little more: first nothing, then code generation for element-wise ops and
small MLPs ("snippets", where the crashes of OpenVINO 2026.4 are), then bfloat16, at last static
shapes. A crash, a kill or a hang is an outcome.

What is found holds for the CPU that builds. Other instruction sets get other code, which cannot be
tried here: held down to AVX2 (``ONEDNN_MAX_CPU_ISA``) on a CPU with AVX-512, OpenVINO crashed on
a decoder that runs on a real CPU of that kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partitioner.backends.base import CompileOptions
from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.openvino.execute import OpenvinoExecutor
from partitioner.backends.openvino.settings import Settings
from partitioner.backends.worker import run_job
from partitioner.errors import BackendError, CompileError, ResourceError
from partitioner.plan import SegmentInfo
from partitioner.planning.cuts import info_of
from partitioner.rowcounts import at_rows, row_counts
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment

__all__ = ["Found", "Rung", "climb", "run", "rungs"]


@dataclass(frozen=True)
class Rung:
    """Settings by a name for people."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class Found:
    """Settings that hold, and how they were found.

    Attributes:
        options: of the artifact.
        steps: what became of each rung that was tried.
        limited: whether a rung failed that might have held with more time or memory.
    """

    options: dict[str, Any]
    steps: list[dict[str, str]]
    limited: bool


def rungs(precision: str) -> Iterator[Rung]:
    """The ladder, the best settings first."""
    yield Rung("normal", Settings(precision=precision))
    slower = Settings(precision=precision, snippets=False)
    yield Rung("snippets off", slower)
    if precision != "f32":
        slower = replace(slower, precision="f32")
        yield Rung("snippets off, f32", slower)
    yield Rung("snippets off, dynamic shapes", replace(slower, dynamic=True))


def climb(
    segment: Segment, graph: Path, weights: Sequence[Path], folder: Path, options: CompileOptions
) -> Found:
    """The first rung that holds.

    Args:
        graph, weights: as the artifact will have them.
        folder: for files on the way.

    Raises:
        CompileError: none holds; names the last outcome of each.
    """
    info = info_of(segment)
    steps: list[dict[str, str]] = []
    limited = False
    for index, rung in enumerate(rungs(options.precision)):
        job = folder / f"rung_{index}"
        job.mkdir()
        failure = _try(rung, info, graph, weights, job, options)
        outcome = "runs" if failure is None else _short(failure, info.name)
        steps.append({"settings": rung.name, "outcome": outcome})
        _note(options.log, segment.name, steps[-1])
        if failure is None:
            return Found(rung.settings.options(), steps, limited)
        # Want of memory shows in many ways; a library's own errors and crashes are some.
        limited |= isinstance(failure, ResourceError) or options.memory_bytes is not None
    tried = "; ".join(f"{step['settings']}: {step['outcome']}" for step in steps)
    raise CompileError(
        f"OpenVINO does not run segment {segment.name!r}: {tried}",
        where=info.sources[0] if info.sources else None,
        advice="build with another backend as well, which then takes it (--backends)",
    )


def _try(
    rung: Rung,
    info: SegmentInfo,
    graph: Path,
    weights: Sequence[Path],
    job: Path,
    options: CompileOptions,
) -> CompileError | None:
    """Try a rung; None if it holds, or what happened."""
    document = {
        "graph": str(graph),
        "weights": [str(path) for path in weights],
        "options": rung.settings.options(),
        "sizes": [_tensors(info, rows) for rows in _rows(info)],
        "name": info.name,
    }
    (job / "job.json").write_text(json.dumps(document))
    try:
        run_job(
            "partitioner.backends.openvino.ladder:run",
            job,
            what=_called(info.name),
            where=None,
            **options.limits,
        )
    except CompileError as error:
        return error
    return None


def _rows(info: SegmentInfo) -> tuple[int, ...]:
    """The numbers of rows to run with: the most and the fewest of a range; else any, of none."""
    counts = row_counts([spec.shape for _, spec in (*info.inputs, *info.outputs)])
    return (counts[0].span.most, counts[0].span.least) if counts else (0,)


def _tensors(info: SegmentInfo, rows: int) -> dict[str, Any]:
    kinds = {"inputs": info.inputs, "outputs": info.outputs}
    return {
        kind: [[name, spec.dtype, list(at_rows(spec.shape, rows))] for name, spec in tensors]
        for kind, tensors in kinds.items()
    }


def _called(segment: str) -> str:
    return f"segment {segment!r}"


def _short(failure: CompileError, segment: str) -> str:
    return failure.what.splitlines()[0].removeprefix(f"the compiler of {_called(segment)} ")


def _note(log: Path | None, segment: str, step: dict[str, str]) -> None:
    if log is None:
        return
    with log.open("a") as file:
        file.write(f"openvino: segment {segment!r}: {step['settings']}: {step['outcome']}\n")


# --- in the worker ------------------------------------------------------------------------------


def run(directory: Path) -> None:
    """The job: load the artifact as a server would, and run it once on zeros of each size.

    Raises:
        CompileError: OpenVINO refuses it, or fails.
    """
    job = json.loads((directory / "job.json").read_text())
    for size in job["sizes"]:
        tensors = {
            kind: tuple((name, TensorSpec(dtype, tuple(shape))) for name, dtype, shape in rows)
            for kind, rows in size.items()
        }
        info = SegmentInfo(job["name"], "openvino", tensors["inputs"], tensors["outputs"])
        files = ArtifactFiles(
            Path(job["graph"]), directory, tuple(map(Path, job["weights"])), job["options"], info
        )
        try:
            executable = OpenvinoExecutor().load(files, DeviceOptions(cache=False))
            executable(*(np.zeros(cast(Any, spec.shape), spec.dtype) for _, spec in info.inputs))
        except BackendError as error:
            raise CompileError(error.what) from error
