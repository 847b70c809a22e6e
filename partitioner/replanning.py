"""Plans made once more: by what was measured, or of a program that has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from partitioner.backends.base import CompileOptions
from partitioner.cases import settled
from partitioner.errors import ModelError
from partitioner.planning.plan import make_plan
from partitioner.prepared import Prepared
from partitioner.tuning import Tuned, scale_of
from partitioner.tuning import tune as measure
from partitioner.tuning.pieces import pieces_of
from partitioner.variants import Merged

__all__ = ["replanned", "tune", "tune_as"]


def tune(
    prepared: Prepared,
    options: CompileOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """The same pipeline, placed by what its parts take on this machine.

    Args:
        options: how the build will compile; its folders are not used.
        progress: called with the parts done and their number.

    Raises:
        UsageError: fewer than two of the target's backends can run here.
    """
    tuned, scale = measure(
        prepared.program,
        prepared.planned,
        prepared.target,
        options=options,
        progress=progress,
    )
    return replanned(replace(prepared, tuned=tuple(tuned), scale=scale), prepared.merged)


def tune_as(prepared: Prepared, measured: Sequence[Tuned]) -> Prepared:
    """The same pipeline, placed by earlier measurements of it.

    Raises:
        ModelError: they are not of this pipeline.
    """
    if not measured:
        return prepared
    pieces = pieces_of(prepared.program, prepared.planned, prepared.target)
    if [(p.graph, len(p.part.nodes)) for p in pieces] != [(t.graph, t.nodes) for t in measured]:
        raise ModelError("the measurements in the bundle are not of this pipeline")
    scale = scale_of(pieces, measured)
    return replanned(replace(prepared, tuned=tuple(measured), scale=scale), prepared.merged)


def replanned(prepared: Prepared, merged: Merged) -> Prepared:
    """Another plan, of a program that is another, or is placed in another way."""
    planned = make_plan(merged.program, prepared.target, prepared.judges, prepared.scale)
    old = prepared.cases
    planned, cases = settled(
        planned,
        merged,
        [case.captured for case in old],
        [case.choice for case in old],
        [case.options for case in old],
    )
    return replace(prepared, planned=planned, cases=cases, merged=merged)
