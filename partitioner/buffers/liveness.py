"""From a plan to its buffer plan: which memory each value takes, and for how long.

1. Every value of known size that a step writes gets a storage from the step that writes it to the
   last one that reads it. A loop reads and writes as one step of the level above: what it reads
   is kept to its end, what it leaves (the last carried values, stacked values) is there from its
   start.
2. A value that a call writes and its loop collects is written straight into its row of the stacked
   value.
3. A value that later trips read through carries needs one place for each trip that it lives in.
   The instances take these places in turn, the modulo variable expansion of M. Lam, "Software
   Pipelining: An Effective Scheduling Technique for VLIW Machines", PLDI 1988. One place less is
   enough, in place, where the oldest instance is read for the last time before the step that
   writes the newest one. Turns are counted from the end, so that the last trips write straight
   into the memory of what the loop leaves.
4. An initial value that nothing else reads is one more instance, of the trip before the first: its
   memory is one of these places.
5. Storages of the arena get offsets (:mod:`partitioner.buffers.layout`). Values that are handed to
   the caller are no part of it, nor is what host ops allocate for themselves.

What one call reads and writes never shares memory. Where none of this fits (a carry that hands on a
row of a table, an outer value, what another carry has handed on already), the runtime copies the
value into the place of what the loop leaves, at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from partitioner.buffers.layout import aligned, assign_offsets
from partitioner.buffers.plan import BufferPlan, Kind, Storage
from partitioner.buffers.timeline import Moment, timeline, written
from partitioner.plan import Call, Carry, Loop, Plan
from partitioner.specs import fixed_nbytes

__all__ = ["plan_buffers"]

#: Backends whose results are arrays of their own making, never written to memory given to them.
_ALLOCATING = frozenset({"host"})


def plan_buffers(plan: Plan) -> BufferPlan:
    """The buffer plan of a plan that is known to be sound; equal plans give equal ones."""
    moments = timeline(plan.steps)
    return _Maker(plan, moments[-1].last + 1 if moments else 0).run(moments)


class _Maker:
    """Goes through the levels of a plan from the outside in.

    Args:
        end: the time after the last step.
    """

    def __init__(self, plan: Plan, end: int) -> None:
        self.plan = plan
        self.end = end
        self.storages: list[Storage | None] = []
        self.places: dict[str, list[int | str]] = {}
        self.rows: dict[str, str] = {}
        self.unsized: list[str] = []

    def run(self, moments: Sequence[Moment]) -> BufferPlan:
        handed = dict.fromkeys(self.plan.outputs.values(), self.end)
        self.level(moments, None, handed)
        places = {value: self.resolved(ring) for value, ring in self.places.items()}
        return _compacted(self.storages, places, self.rows, tuple(self.unsized))

    def level(self, moments: Sequence[Moment], loop: Moment | None, kept: dict[str, int]) -> None:
        """Give places to what the steps of one level write, then to what those inside do.

        Args:
            loop: whose body the steps are; None for the plan's own.
            kept: value -> time until which it is needed whatever the steps read.
        """
        last = {value: moment.last for moment in moments for value in moment.reads} | kept
        around = None if loop is None else _Around.of(loop)
        for moment in moments:
            for value in written(moment.step):
                if fixed_nbytes(self.plan.values[value]) is None:
                    self.unsized.append(value)
                elif value in self.rows:
                    continue
                elif around is not None and value in around.chains:
                    self.give_ring(value, moment, around, last)
                else:
                    self.give_one(value, moment, max(last.get(value, 0), moment.last))
        for moment in moments:
            if isinstance(moment.step, Loop):
                self.rows.update(_direct_rows(self.plan, moment.step))
                copied = (s.inner for s in moment.step.stacked if self.is_copied(s.inner, s.result))
                self.level(moment.body, moment, dict.fromkeys(copied, moment.last))

    def is_copied(self, inner: str, result: str) -> bool:
        return self.rows.get(inner) != result

    # --- one value ------------------------------------------------------------------------------

    def give_one(self, value: str, moment: Moment, last: int) -> None:
        kind: Kind = "output" if last == self.end else "arena"
        if self.is_loose(moment):
            self.new(value, moment.first, last, "loose")
        else:
            self.places[value] = [self.new(value, moment.first, last, kind)]

    def give_ring(self, value: str, moment: Moment, loop: _Around, last: Mapping[str, int]) -> None:
        """Places for a value that is carried on."""
        chain = loop.chains[value]
        read = max(last.get(carry.inner, loop.first) for carry in chain[-1])
        count = len(chain) + (0 if read < moment.first else 1)
        if self.is_loose(moment):
            for _ in range(count):
                self.new(value, loop.first, loop.last, "loose")
            return
        finals = [next((c.final for c in carries if c.final), None) for carries in chain]
        ring = self.places[value] = []
        for index in range(count):
            final = finals[index] if index < len(finals) else None
            ring.append(final or self.new(value, loop.first, loop.last, "arena"))
        for age, carries in enumerate(chain, 1):
            self.take_in(carries[0].init, ring, age, loop)

    def take_in(self, init: str, ring: list[int | str], age: int, loop: _Around) -> None:
        """Let an initial value stand where the instance of ``age`` trips ago would, if it may."""
        own = self.sole_storage(init)
        if own is None or loop.uses[init] > 1 or self.at(own).last != loop.last:
            return
        index = (loop.trips - 1 + age) % len(ring)
        place = ring[index]
        if isinstance(place, int):
            self.storages[place] = None
            ring[index] = own
            return
        # The loop leaves its result where the initial value was, unless that is carried on: the
        # result of the trip before may then be needed after the initial value is written.
        left = self.sole_storage(place)
        if left is not None and self.at(left).first == loop.first:
            whole = replace(self.at(own), last=self.at(left).last, kind=self.at(left).kind)
            self.storages[own], self.storages[left] = whole, None
            self.places[place] = [own]

    def is_loose(self, moment: Moment) -> bool:
        step = moment.step
        return isinstance(step, Call) and self.plan.segments[step.segment].backend in _ALLOCATING

    # --- storages -------------------------------------------------------------------------------

    def new(self, value: str, first: int, last: int, kind: Kind) -> int:
        spec = self.plan.values[value]
        nbytes = fixed_nbytes(spec)
        assert nbytes is not None
        self.storages.append(Storage(spec, nbytes, first, last, kind))
        return len(self.storages) - 1

    def at(self, index: int) -> Storage:
        storage = self.storages[index]
        assert storage is not None
        return storage

    def sole_storage(self, value: str) -> int | None:
        """The storage of a value that always stands in the same one."""
        ring = self.places.get(value, [])
        return ring[0] if len(ring) == 1 and isinstance(ring[0], int) else None

    def resolved(self, ring: Sequence[int | str]) -> tuple[int | str, ...]:
        """The ring with the storage itself for each value that always stands in the same one."""
        return tuple(map(self.followed, ring))

    def followed(self, place: int | str) -> int | str:
        while isinstance(place, str) and len(self.places[place]) == 1:
            place = self.places[place][0]
        return place


@dataclass(frozen=True)
class _Around:
    """What the values of a body need to know of their loop.

    Args:
        chains: value -> the carries in which it is one trip old, two trips old, and so on.
        uses: value from outside -> how often the loop refers to it: as an initial value, as a
            source of rows, in its body.
    """

    trips: int
    first: int
    last: int
    chains: Mapping[str, Sequence[Sequence[Carry]]]
    uses: Counter[str]

    @classmethod
    def of(cls, moment: Moment) -> _Around:
        loop = moment.step
        assert isinstance(loop, Loop)
        uses = Counter(carry.init for carry in loop.carries)
        uses.update(part.source for part in loop.slices)
        uses.update(moment.free)
        return cls(loop.trips, moment.first, moment.last, _chains(loop), uses)


def _chains(loop: Loop) -> dict[str, list[list[Carry]]]:
    """For each value that carries start from: those one trip on, two trips on, and so on."""
    by_source: dict[str, list[Carry]] = {}
    for carry in loop.carries:
        by_source.setdefault(carry.next, []).append(carry)
    inners = {carry.inner for carry in loop.carries}
    chains: dict[str, list[list[Carry]]] = {}
    for source, carries in by_source.items():
        if source not in inners:
            chains[source] = list(_generations(carries, by_source))
    return chains


def _generations(carries: list[Carry], by_source: dict[str, list[Carry]]) -> Iterator[list[Carry]]:
    while carries:
        yield carries
        carries = [later for carry in carries for later in by_source.get(carry.inner, ())]


def _direct_rows(plan: Plan, loop: Loop) -> dict[str, str]:
    """Collected values that a call of the body can write into their row: id -> result id."""
    calls = {v for step in loop.body if isinstance(step, Call) for v in step.outputs}
    rows: dict[str, str] = {}
    for stacked in loop.stacked:
        if stacked.inner in calls and fixed_nbytes(plan.values[stacked.result]) is not None:
            rows.setdefault(stacked.inner, stacked.result)
    return rows


def _compacted(
    storages: Sequence[Storage | None],
    places: dict[str, tuple[int | str, ...]],
    rows: dict[str, str],
    unsized: tuple[str, ...],
) -> BufferPlan:
    """The buffer plan, without storages that were given up, and with offsets."""
    kept = [index for index, storage in enumerate(storages) if storage is not None]
    renamed = {old: new for new, old in enumerate(kept)}
    live = [storage for storage in storages if storage is not None]
    inside = [index for index, storage in enumerate(live) if storage.kind == "arena"]
    intervals = [(aligned(live[i].nbytes), live[i].first, live[i].last) for i in inside]
    offsets, arena = assign_offsets(intervals)
    for index, offset in zip(inside, offsets, strict=True):
        live[index] = replace(live[index], offset=offset)
    return BufferPlan(
        tuple(live),
        {
            value: tuple(renamed[p] if isinstance(p, int) else p for p in ring)
            for value, ring in places.items()
        },
        dict(rows),
        arena,
        unsized,
    )
