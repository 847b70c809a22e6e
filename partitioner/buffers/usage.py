"""How much memory a run takes, known before it runs: what a bundle records for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from partitioner.buffers.layout import Interval, aligned, most_alive
from partitioner.buffers.liveness import plan_buffers
from partitioner.buffers.plan import BufferPlan, Storage
from partitioner.buffers.timeline import Moment, timeline
from partitioner.plan import Loop, Plan
from partitioner.specs import fixed_nbytes

__all__ = ["RULES", "MemoryUse", "measure"]

#: The rules by which buffer plans are made: raised whenever a plan's figures change by a change of
#: the code. Figures of the same rules are compared, those of other rules are not.
RULES = 1


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one run, beside what the backends take for themselves.

    Args:
        rules: by which the figures are made, :data:`RULES`.
        peak: ``arena``, ``outputs`` and ``loose`` together.
        arena: of all values that segments write and steps read.
        outputs: arrays of known size that are the caller's.
        loose: the most that results of host ops of known size take at one time.
        alive: the most that values in the arena take at one time; no arena is smaller.
        unsized: how many values have a size that only the data decide; they come on top.
        inputs, draws, constants: what there is before the first step; no part of the peak.
        loops: loop -> the most that is needed at one time while it runs, of all kinds.
    """

    rules: int
    peak: int
    arena: int
    outputs: int
    loose: int
    alive: int
    unsized: int
    inputs: int
    draws: int
    constants: int
    loops: dict[str, int] = field(default_factory=dict[str, int])


def measure(plan: Plan, buffers: BufferPlan | None = None) -> MemoryUse:
    """The figures of a plan that is known to be sound.

    Args:
        buffers: its buffer plan, if it has been made already.
    """
    buffers = buffers or plan_buffers(plan)
    storages = buffers.storages
    outputs = sum(storage.nbytes for storage in storages if storage.kind == "output")
    loose = max(most_alive(_intervals(storages, "loose")), default=0)
    drawn = {draw.value for group in plan.draws for draw in group.draws}
    return MemoryUse(
        rules=RULES,
        peak=buffers.arena + outputs + loose,
        arena=buffers.arena,
        outputs=outputs,
        loose=loose,
        alive=max(most_alive(_intervals(storages, "arena")), default=0),
        unsized=len(buffers.unsized),
        inputs=_bytes(plan, set(plan.inputs.values()) - drawn),
        draws=_bytes(plan, drawn),
        constants=_bytes(plan, plan.constants),
        loops=dict(_loops(timeline(plan.steps), most_alive(_intervals(storages)))),
    )


def _intervals(storages: Iterable[Storage], kind: str | None = None) -> list[Interval]:
    return [
        (
            aligned(storage.nbytes) if storage.kind == "arena" else storage.nbytes,
            storage.first,
            storage.last,
        )
        for storage in storages
        if kind in (None, storage.kind)
    ]


def _bytes(plan: Plan, values: Iterable[str]) -> int:
    """Of those whose size is known."""
    return sum(fixed_nbytes(plan.values[value]) or 0 for value in values)


def _loops(moments: Iterable[Moment], alive: list[int]) -> Iterator[tuple[str, int]]:
    for moment in moments:
        if isinstance(moment.step, Loop):
            yield moment.step.name, max(alive[moment.first : moment.last + 1], default=0)
            yield from _loops(moment.body, alive)
