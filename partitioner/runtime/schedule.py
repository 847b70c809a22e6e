"""What a run does step by step, computed once when a bundle is loaded.

A schedule is the plan's steps again, each with what memory asks of it: which values of a loop take
their places in turn, which are written straight into the row of what collects them, which are
copied, and which arrays are let go because the buffer plan does not own them (results of host ops,
values whose size only the data decide).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from partitioner.buffers import BufferPlan, plan_buffers
from partitioner.buffers.timeline import Moment, timeline, written
from partitioner.plan import Call, Carry, Loop, Plan, Slice

__all__ = ["CallStep", "LoopStep", "Ring", "Scheduled", "ScheduledStep", "schedule"]


@dataclass(frozen=True, slots=True)
class Ring:
    """The places of a value, taken in turn as :class:`partitioner.buffers.BufferPlan` says."""

    value: str
    places: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class CallStep:
    """Run a segment, then let values go."""

    segment: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Run a body ``trips`` times, then let values go.

    Args:
        rings: what takes its places in turn; also what stands in the present place of a value of
            a loop around this one.
        rows: (value, result): calls write the value straight into its row of the result.
        copied: (value, result): the value is copied there at the end of a trip.
        gathered: likewise, where only the data decide the result's size.
        drop_inside: values of a trip that are let go at its end.
        names: of the carried values, for people.
    """

    name: str
    trips: int
    carries: tuple[Carry, ...]
    slices: tuple[Slice, ...]
    rings: tuple[Ring, ...]
    rows: tuple[tuple[str, str], ...]
    copied: tuple[tuple[str, str], ...]
    gathered: tuple[tuple[str, str], ...]
    body: tuple[ScheduledStep, ...]
    drop_inside: tuple[str, ...]
    drop: tuple[str, ...]
    names: tuple[str, ...] = ()


ScheduledStep = CallStep | LoopStep


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A plan, ready to run.

    Args:
        buffers: where its values stand.
        steps: in order.
        fixed: value id -> its storage, for values that always stand in the same one.
        outputs: output name -> value id.
        fresh: ids of values whose arrays can be given to the caller as they are.
    """

    buffers: BufferPlan
    steps: tuple[ScheduledStep, ...]
    fixed: dict[str, int]
    outputs: dict[str, str]
    fresh: frozenset[str]


def schedule(plan: Plan) -> Scheduled:
    """Schedule a plan, one of a manifest that has been read and so is known to be sound."""
    buffers = plan_buffers(plan)
    maker = _Maker(buffers, _known_names(plan))
    moments = timeline(plan.steps)
    steps = maker.sequence(moments, plan.outputs.values())
    fixed = {
        value: ring[0]
        for value, ring in buffers.places.items()
        if len(ring) == 1 and isinstance(ring[0], int)
    }
    return Scheduled(buffers, steps, fixed, plan.outputs, frozenset(_fresh(plan, buffers)))


def _fresh(plan: Plan, buffers: BufferPlan) -> Iterator[str]:
    for step in plan.steps:
        for value in written(step):
            # A last carried value of unknown size may be the array that a loop started with.
            final = not isinstance(step, Call) and any(c.final == value for c in step.carries)
            if not final or value in buffers.places:
                yield value


def _known_names(plan: Plan) -> dict[str, str]:
    """Value id -> what callers know it as: an output before an input."""
    inputs = {value: name for name, value in plan.inputs.items()}
    return inputs | {value: name for name, value in plan.outputs.items()}


def _carried_names(carries: Sequence[Carry], known: dict[str, str]) -> tuple[str, ...]:
    """A name for each, all different."""
    names: list[str] = []
    for carry in carries:
        name = known.get(carry.final or "") or known.get(carry.init) or carry.init
        names.append(carry.inner if name in names else name)
    return tuple(names)


class _Maker:
    def __init__(self, buffers: BufferPlan, known: dict[str, str]) -> None:
        self.buffers = buffers
        self.known = known

    def is_owned(self, value: str) -> bool:
        """Whether the buffer plan owns the memory, so that letting the value go frees nothing."""
        return value in self.buffers.places or value in self.buffers.rows

    def sequence(
        self, moments: Sequence[Moment], kept: Iterable[str], start: Iterable[str] = ()
    ) -> tuple[ScheduledStep, ...]:
        """Schedule steps that run one after the other.

        Args:
            kept: values that are needed after the steps.
            start: values that exist before the steps and may be dropped by them.
        """
        droppable = {*start, *(value for moment in moments for value in written(moment.step))}
        needed = set(kept)
        drops: list[tuple[str, ...]] = []
        for moment in reversed(moments):
            touched = dict.fromkeys((*moment.reads, *written(moment.step)))
            free = (v for v in touched if v in droppable and v not in needed)
            drops.append(tuple(value for value in free if not self.is_owned(value)))
            needed.update(moment.reads)
        return tuple(map(self.step, moments, reversed(drops)))

    def step(self, moment: Moment, drop: tuple[str, ...]) -> ScheduledStep:
        step = moment.step
        if isinstance(step, Loop):
            return self.loop(step, moment, drop)
        return CallStep(step.segment, step.inputs, step.outputs, drop)

    def loop(self, loop: Loop, moment: Moment, drop: tuple[str, ...]) -> LoopStep:
        places, rows = self.buffers.places, self.buffers.rows
        local = [value for inner in moment.body for value in written(inner.step)]
        rings = tuple(Ring(value, places[value]) for value in local if self.moves(value))
        pairs = [(part.inner, part.result) for part in loop.stacked]
        direct = [pair for pair in pairs if rows.get(pair[0]) == pair[1]]
        rest = [pair for pair in pairs if rows.get(pair[0]) != pair[1]]
        start = [part.inner for part in (*loop.carries, *loop.slices)]
        kept = {c.next for c in loop.carries} | {value for value, _ in rest}
        body = self.sequence(moment.body, kept, start)
        dropped = {value for inner in body for value in inner.drop}
        return LoopStep(
            loop.name,
            loop.trips,
            loop.carries,
            loop.slices,
            rings,
            tuple(direct),
            tuple(pair for pair in rest if pair[1] in places),
            tuple(pair for pair in rest if pair[1] not in places),
            body,
            tuple(v for v in (*start, *local) if not self.is_owned(v) and v not in dropped),
            drop,
            _carried_names(loop.carries, self.known),
        )

    def moves(self, value: str) -> bool:
        """Whether a value has more than one place, or stands in that of one that has."""
        ring = self.buffers.places.get(value, ())
        return len(ring) > 1 or any(isinstance(place, str) for place in ring)
