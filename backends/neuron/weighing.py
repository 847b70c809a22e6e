"""Weights in the NEFF or outside of it, by what a call takes on this host's device.

No document says which is faster once the weights have been moved to the device. So a segment is
compiled both ways, both are loaded as they will be by whoever serves them, and they are run in
turn. Where that cannot be, the way by the weights' size stays, and the artifact says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from partitioner.backends.base import Compiled
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.backends.neuron.execute import NeuronExecutor
from partitioner.backends.neuron.settings import HLO_LIMIT
from partitioner.errors import CompileError, PartitionerError
from partitioner.plan import SegmentInfo
from partitioner.tuning.measuring import timed

__all__ = ["Way", "weighed"]

#: A value of the setting ``weights``; ``auto`` goes by their size.
Way = Literal["auto", "inline", "separate"]


def weighed(compile_as: Callable[[Way], Compiled], info: SegmentInfo) -> Compiled:
    """The faster of the two artifacts; its options have the seconds of both (``measured``).

    Args:
        compile_as: compiles the segment, its weights in one of these ways.
        info: of the segment.

    Raises:
        CompileError: as ``compile_as``, of the way that goes by size; the other one's failure
            decides.
    """
    made = compile_as("auto")
    if not 0 < made.report["weight_bytes"] <= HLO_LIMIT:
        return made  # There is but one way.
    own, other = _ways(made)
    artifacts = {own: made}
    loaded: dict[str, Executable] = {}
    with ExitStack() as stack:
        try:
            # First, since a machine that only compiles can be told by it.
            loaded[own] = _load(made, info, stack)
            artifacts[other] = compile_as(other)
            loaded[other] = _load(artifacts[other], info, stack)
            seconds = timed(loaded)
        except PartitionerError as error:
            noted = _noted(made, f"the weights' place was not measured: {error.what}")
            # With more time or memory the other way might have been compiled.
            return replace(noted, limited=isinstance(error, CompileError))
    best = min(seconds, key=lambda way: seconds[way])
    chosen = artifacts[best]
    return replace(chosen, options={**chosen.options, "measured": seconds})


def _ways(made: Compiled) -> tuple[Way, Way]:
    return ("inline", "separate") if made.options["inline_weights"] else ("separate", "inline")


def _load(made: Compiled, info: SegmentInfo, stack: ExitStack) -> Executable:
    files = ArtifactFiles(made.graph, Path(), (), made.options, info)
    executable = NeuronExecutor().load(files, DeviceOptions(cache=False))
    stack.callback(executable.close)
    return executable


def _noted(made: Compiled, note: str) -> Compiled:
    warnings = [*made.options["warnings"], note]
    report = {**made.report, "warnings": warnings}
    return replace(made, options={**made.options, "warnings": warnings}, report=report)
