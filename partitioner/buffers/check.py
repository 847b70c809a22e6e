"""An independent check of a buffer plan: no value is overwritten while a step still reads it.

It shares no code with what makes buffer plans and knows nothing of lifetimes. The plan is run step
by step on a memory that remembers which write filled which bytes, and whatever is read must still
be there as it was written. Loops make their first trips and as many more as their values need to
come round to the places in which the last trip finds them, three at least.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from partitioner.buffers.plan import BufferPlan, Storage
from partitioner.errors import ProgramError
from partitioner.plan import Call, Loop, Plan, Step
from partitioner.specs import fixed_nbytes

__all__ = ["check_buffers"]

#: Bytes; what :mod:`partitioner.buffers.layout` promises, said a second time.
_ALIGNMENT = 64


def check_buffers(plan: Plan, buffers: BufferPlan) -> None:
    """Prove that a sound plan can be run in the places that a buffer plan gives to its values.

    Raises:
        ProgramError: says which value is written over, or stands where it must not.
    """
    for index, storage in enumerate(buffers.storages):
        _check_storage(index, storage, buffers.arena)
    _check_places(plan, buffers)
    _Simulation(plan, buffers).run()


def _fail(what: str) -> NoReturn:
    raise ProgramError(
        f"the buffer plan is wrong: {what}",
        advice="this is a defect of the planner; please report it with the model",
    )


def _check_storage(index: int, storage: Storage, arena: int) -> None:
    if storage.nbytes != fixed_nbytes(storage.spec):
        _fail(f"storage {index} has {storage.nbytes} bytes for {storage.spec}")
    if storage.kind != "arena":
        return
    if storage.offset < 0 or storage.offset % _ALIGNMENT:
        _fail(f"storage {index} is at {storage.offset}, no multiple of {_ALIGNMENT}")
    if storage.offset + storage.nbytes > arena:
        _fail(f"storage {index} reaches beyond the arena of {arena} bytes")


def _check_places(plan: Plan, buffers: BufferPlan) -> None:
    for value, ring in buffers.places.items():
        for place in ring:
            if isinstance(place, str):
                spec = plan.values[place]
            else:
                spec = buffers.storages[place].spec
                if buffers.storages[place].kind == "loose":
                    _fail(f"{value!r} stands in a storage that nobody allocates")
            if spec != plan.values[value]:
                _fail(f"{value!r} is {plan.values[value]}, but stands where {spec} does")


@dataclass(frozen=True)
class _Range:
    """Bytes of the arena (space 0), or of an array of its own."""

    space: int
    start: int
    stop: int

    def overlaps(self, other: _Range) -> bool:
        return self.space == other.space and self.start < other.stop and other.start < self.stop

    def part(self, start: int, stop: int) -> _Range:
        return _Range(self.space, self.start + start, self.start + stop)


@dataclass(frozen=True)
class _Value:
    """An array: its bytes (None: not planned memory), and the writes that its content is of."""

    where: _Range | None = None
    writes: tuple[tuple[_Range, int], ...] = ()


class _Memory:
    """Which write filled which bytes; a write that was partly written over is gone."""

    def __init__(self) -> None:
        self._spans: dict[int, list[tuple[int, int, int]]] = {}
        self._count = 0

    def write(self, where: _Range) -> tuple[_Range, int]:
        self._count += 1
        if where.start == where.stop:
            return where, self._count
        spans = self._spans.setdefault(where.space, [])
        first = bisect.bisect_left(spans, (where.start, 0, 0))
        if first and spans[first - 1][1] > where.start:
            first -= 1
        after = bisect.bisect_left(spans, (where.stop, 0, 0))
        spans[first:after] = [(where.start, where.stop, self._count)]
        return where, self._count

    def has(self, where: _Range, number: int) -> bool:
        if where.start == where.stop:
            return True
        span = (where.start, where.stop, number)
        spans = self._spans.get(where.space, [])
        at = bisect.bisect_left(spans, span)
        return at < len(spans) and spans[at] == span


class _Simulation:
    def __init__(self, plan: Plan, buffers: BufferPlan) -> None:
        self.plan, self.buffers = plan, buffers
        self.memory = _Memory()
        self.env: dict[str, _Value] = {}
        self.places: dict[str, _Range] = {}

    def run(self) -> None:
        plan = self.plan
        drawn = (draw.value for group in plan.draws for draw in group.draws)
        self.env.update(dict.fromkeys((*plan.inputs.values(), *plan.constants, *drawn), _Value()))
        self.enter(plan.steps, 1, 0)
        self.steps(plan.steps)
        for name, value in plan.outputs.items():
            where = self.read(value, f"the output {name!r}").where
            if where is not None and where.space == 0:
                _fail(f"the output {name!r} stands in the arena")

    # --- reading and writing --------------------------------------------------------------------

    def read(self, value: str, who: str) -> _Value:
        for where, number in self.env[value].writes:
            if not self.memory.has(where, number):
                _fail(f"{who} reads {value!r} after something else was written there")
        return self.env[value]

    def write(self, value: str) -> None:
        """A whole value, into its place."""
        where = self.places.get(value)
        self.env[value] = _Value() if where is None else _Value(where, (self.memory.write(where),))

    def place(self, place: int | str) -> _Range:
        if isinstance(place, str):
            return self.places[place]
        storage = self.buffers.storages[place]
        space = 0 if storage.kind == "arena" else 1 + place
        return _Range(space, storage.offset, storage.offset + storage.nbytes)

    def enter(self, steps: Iterable[Step], trips: int, trip: int) -> None:
        """Let the values that steps of one level write take their places for a trip."""
        for step in steps:
            for value in self.planned(step):
                ring = self.buffers.places.get(value)
                if ring is not None:
                    self.places[value] = self.place(ring[(trips - 1 - trip) % len(ring)])
                elif value not in self.buffers.rows:
                    _fail(f"{value!r} has no place")

    def planned(self, step: Step) -> list[str]:
        """What a step writes into memory that is planned."""
        if isinstance(step, Loop):
            values = [c.final for c in step.carries if c.final is not None]
            values += [part.result for part in step.stacked]
        elif self.plan.segments[step.segment].backend == "host":
            values = [value for value in step.outputs if value in self.buffers.rows]
        else:
            values = list(step.outputs)
        return [value for value in values if fixed_nbytes(self.plan.values[value]) is not None]

    # --- steps ----------------------------------------------------------------------------------

    def steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Call):
                self.call(step)
            else:
                self.loop(step)

    def call(self, step: Call) -> None:
        who = f"the call of {step.segment!r}"
        taken = [(value, self.read(value, who).where) for value in step.inputs]
        for value in step.outputs:
            where = self.places.get(value)
            for other, theirs in taken:
                if where is not None and theirs is not None and where.overlaps(theirs):
                    _fail(f"{who} writes {value!r} over {other!r}, which it reads or writes, too")
            taken.append((value, where))
        for value in step.outputs:
            self.write(value)

    def loop(self, loop: Loop) -> None:
        who = f"the loop {loop.name!r}"
        trips = self.trips(loop)
        carried = [self.read(carry.init, who) for carry in loop.carries]
        rows: dict[str, list[tuple[_Range, int]]] = {part.result: [] for part in loop.stacked}
        for trip in range(trips):
            self.env.update(zip((c.inner for c in loop.carries), carried, strict=True))
            for part in loop.slices:
                self.env[part.inner] = self.read(part.source, who)
            self.enter(loop.body, trips, trip)
            direct = {
                part.result: part.inner
                for part in loop.stacked
                if self.buffers.rows.get(part.inner) == part.result
            }
            for result, inner in direct.items():
                self.places[inner] = self.row(result, loop, trip, trip == trips - 1)
            self.steps(loop.body)
            for part in loop.stacked:
                content = self.read(part.inner, who)
                if part.result in direct:
                    rows[part.result] += content.writes
                elif part.result in self.places:
                    row = self.row(part.result, loop, trip, trip == trips - 1)
                    rows[part.result].append(self.memory.write(row))
            carried = [self.read(carry.next, who) for carry in loop.carries]
        for carry in loop.carries:
            if carry.final is not None:
                self.settle(carry.next, carry.final, who)
        for result, writes in rows.items():
            self.env[result] = _Value(self.places.get(result), tuple(writes))

    def settle(self, value: str, final: str, who: str) -> None:
        """What the last trip hands on is in the place of the result, or is copied there."""
        content, where = self.read(value, who), self.places.get(final)
        if where is None or content.where == where:
            self.env[final] = content
            return
        if content.where is not None and content.where.overlaps(where):
            _fail(f"{who} copies {value!r} over a part of itself")
        self.write(final)

    def row(self, result: str, loop: Loop, trip: int, rest: bool) -> _Range:
        """Row ``trip`` of a stacked value, with all later ones where ``rest`` is set."""
        whole = self.places[result]
        size = (whole.stop - whole.start) // loop.trips
        return whole.part(trip * size, loop.trips * size if rest else (trip + 1) * size)

    def trips(self, loop: Loop) -> int:
        """As many trips as tell something new, and end in the same places as all of them."""
        rings = [
            len(self.buffers.places[value])
            for step in loop.body
            for value in self.planned(step)
            if value in self.buffers.places
        ]
        few = 3 + max((*rings, len(loop.carries)))
        return min(loop.trips, few + (loop.trips - few) % math.lcm(*rings))
