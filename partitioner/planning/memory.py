"""What each device must hold for one copy of a pipeline, known before it runs.

Values between segments take what the buffer plan (:mod:`partitioner.buffers`) gives them, on every
device that makes or reads them. Within a segment it is what its nodes hold at the same time when
they run one after another; a backend that fuses needs less, one that keeps workspaces needs more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from partitioner.buffers import plan_buffers
from partitioner.buffers.layout import Interval, most_alive
from partitioner.buffers.timeline import Moment, timeline
from partitioner.plan import Call, Plan
from partitioner.planning.limits import peak_bytes
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment
from partitioner.planning.tables import HostCall
from partitioner.program import Program
from partitioner.specs import fixed_nbytes

__all__ = ["MemoryNeed", "memory_of", "weights_of"]


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on one device.

    Attributes:
        weights: of the segments that run there, each constant once.
        values: the most that values take at one time, within and between segments.
        given: inputs, draws and tables that lie there.
    """

    weights: int = 0
    values: int = 0
    given: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.values + self.given


def memory_of(
    planned: Planned,
    program: Program,
    devices: Mapping[str, str],
    places: Mapping[str, frozenset[str]],
) -> dict[str, MemoryNeed]:
    """Device -> what it must hold.

    Args:
        devices: segment -> device.
        places: value -> the devices it lies on.
    """
    weights: dict[str, dict[str, int]] = defaultdict(dict)
    for name, segment in planned.segments.items():
        own = {w: program.constants[w].nbytes for w in weights_of(segment)}
        weights[devices[name]].update(own)
    intervals = _intervals(planned, devices, places)
    given = _given(planned.plan, places)
    names = {*devices.values(), *intervals, *given}
    return {
        name: MemoryNeed(
            sum(weights[name].values()),
            max(most_alive(intervals.get(name, ())), default=0),
            given.get(name, 0),
        )
        for name in names
    }


def weights_of(segment: Segment | HostCall) -> set[str]:
    """Names of the constants that a segment has compiled in or reads as weights."""
    nodes = [] if isinstance(segment, HostCall) else segment.graph.nodes
    return {str(node.target) for node in nodes if node.op == "get_attr"}


def _intervals(
    planned: Planned, devices: Mapping[str, str], places: Mapping[str, frozenset[str]]
) -> dict[str, list[Interval]]:
    plan, buffers = planned.plan, plan_buffers(planned.plan)
    homes: dict[int, set[str]] = defaultdict(set)
    for value, ring in buffers.places.items():
        for place in ring:
            if isinstance(place, int):
                homes[place] |= places.get(value, frozenset())
    found: dict[str, list[Interval]] = defaultdict(list)
    for index, storage in enumerate(buffers.storages):
        for device in homes[index]:
            found[device].append((storage.nbytes, storage.first, storage.last))
    for step, now in _calls(timeline(plan.steps)):
        segment = planned.segments[step.segment]
        if isinstance(segment, HostCall):
            # Its results are arrays of its own; they have no place.
            inside = _bytes(plan, step.outputs)
        else:
            nodes = [n for n in segment.graph.nodes if n.op == "call_function"]
            inside = peak_bytes(nodes) - _bytes(plan, (*set(step.inputs), *step.outputs))
        found[devices[step.segment]].append((max(inside, 0), now, now))
    return found


def _calls(moments: Sequence[Moment]) -> Iterator[tuple[Call, int]]:
    for moment in moments:
        if isinstance(moment.step, Call):
            yield moment.step, moment.first
        yield from _calls(moment.body)


def _given(plan: Plan, places: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Bytes of what there is before the first step, by device."""
    drawn = {draw.value for group in plan.draws for draw in group.draws}
    found: dict[str, int] = defaultdict(int)
    for value in {*plan.inputs.values(), *plan.constants, *drawn}:
        for device in places.get(value, ()):
            found[device] += fixed_nbytes(plan.values[value]) or 0
    return found


def _bytes(plan: Plan, values: Sequence[str]) -> int:
    return sum(fixed_nbytes(plan.values[value]) or 0 for value in values)
