"""The plan: segments, loops and buffers in the order in which they run.

Immutable and serialisable, made at build time without any device and read by the runtime, so it
imports nothing heavy. ``partitioner.planning`` makes plans; ``partitioner.runtime`` runs them.

Every value of a run has an id that is unique in the plan (``Plan.values``). A step reads and
writes values by id. The body of a loop may read any value that was written before the loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from partitioner.specs import TensorSpec

__all__ = [
    "Call",
    "Carry",
    "Draw",
    "DrawGroup",
    "Loop",
    "Plan",
    "SegmentInfo",
    "Slice",
    "Stacked",
    "Step",
    "rescheduled",
]


@dataclass(frozen=True)
class SegmentInfo:
    """What a segment is, for people and for the executor.

    Args:
        name: unique in the plan.
        backend: ``onnx``, ``host``, ...
        inputs: names and tensors in the order of the call.
        outputs: likewise.
        stages: the stages whose nodes it holds.
        nodes: how many nodes.
        sources: up to a few source lines of the user's code, for messages.
    """

    name: str
    backend: str
    inputs: tuple[tuple[str, TensorSpec], ...]
    outputs: tuple[tuple[str, TensorSpec], ...]
    stages: tuple[str, ...] = ()
    nodes: int = 0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """Run a segment: value ids in, value ids out, in the order of the segment's own tensors."""

    segment: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Carry:
    """A value carried from step to step.

    ``inner`` is what the body reads: ``init`` at the first trip, the previous trip's ``next``
    after that. ``final`` names the last trip's ``next`` for what comes after the loop (None where
    nothing reads it).
    """

    init: str
    inner: str
    next: str
    final: str | None


@dataclass(frozen=True)
class Slice:
    """``inner`` is row k of ``source`` at trip k: of a table, or of noise.

    ``source`` has the shape (rows, ...), with at least as many rows as the loop makes trips: a
    table that variants share is as long as the longest of them needs.
    """

    source: str
    inner: str


@dataclass(frozen=True)
class Stacked:
    """``result`` (shape (trips, ...)) collects the body's ``inner`` of every trip."""

    inner: str
    result: str


@dataclass(frozen=True)
class Loop:
    """Run ``body`` ``trips`` times, as ``scan`` does."""

    name: str
    trips: int
    carries: tuple[Carry, ...]
    slices: tuple[Slice, ...]
    stacked: tuple[Stacked, ...]
    body: tuple[Step, ...]


Step = Call | Loop


@dataclass(frozen=True)
class Draw:
    """Random numbers for one value, as torch's CPU generator would draw them.

    ``row``: in a group that repeats, the k-th repetition fills row k of the value.
    ``args`` are (mean, std) for ``normal``, (low, high) for ``uniform`` and ``integers``.
    """

    value: str
    distribution: Literal["normal", "uniform", "integers"]
    args: tuple[float, float]
    row: bool = False
    stream: int = 0


@dataclass(frozen=True)
class DrawGroup:
    """Draws in their order, repeated: one group a loop, so that draws interleave as in eager.

    Values that are filled row by row have at least ``repeat`` rows.
    """

    repeat: int
    draws: tuple[Draw, ...]


@dataclass(frozen=True)
class Plan:
    """All that the runtime needs to know to run segments in order.

    Args:
        values: id -> tensor, for every value.
        inputs: input name -> value id (an unused input has no value id and is not listed).
        constants: ids of values whose content lies in the bundle (tables, initial values).
        draws: the random values, in the order of drawing. Each stream starts from the
            request's seed.
        steps: what is run, in order.
        outputs: output name -> value id, in the order of the pipeline's outputs.
        segments: by name.
    """

    values: dict[str, TensorSpec]
    inputs: dict[str, str]
    constants: tuple[str, ...]
    draws: tuple[DrawGroup, ...]
    steps: tuple[Step, ...]
    outputs: dict[str, str]
    segments: dict[str, SegmentInfo] = field(default_factory=dict[str, SegmentInfo])


def rescheduled(plan: Plan, trips: Mapping[str, int], repeats: Sequence[int]) -> Plan:
    """The plan with another schedule: the same calls and values, other counts.

    Args:
        trips: loop name -> how many trips it makes; loops that are not named keep theirs.
        repeats: of the draw groups, in their order.
    """

    def step_of(step: Step) -> Step:
        if isinstance(step, Call):
            return step
        count = trips.get(step.name, step.trips)
        return replace(step, trips=count, body=tuple(step_of(inner) for inner in step.body))

    draws = tuple(
        replace(group, repeat=repeat) for group, repeat in zip(plan.draws, repeats, strict=True)
    )
    return replace(plan, steps=tuple(step_of(step) for step in plan.steps), draws=draws)
