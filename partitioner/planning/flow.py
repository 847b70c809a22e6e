"""Where the values of a plan lie, how often they are made, and which cross from device to device.

A value lies on the device of the segment that makes it; inputs, draws, tables and what loops
collect lie in the host's memory. Another device that reads it gets it once each time it is made:
what does not change in a loop is brought once, rows of tables come from the host in every trip, and
a carried value crosses only where the segment that makes it is on another device than its reader.
Constants that segments read as a whole are there from loading on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partitioner.plan import Call, Loop, Plan, Step
from partitioner.specs import fixed_nbytes

__all__ = ["Crossing", "Flow", "follow"]


@dataclass(frozen=True)
class Crossing:
    """A value that goes from one device to another.

    Attributes:
        value: its id in the plan.
        nbytes: of one time; 0 where only the data decide.
        start, end: names of devices.
        times: a request.
    """

    value: str
    nbytes: int
    start: str
    end: str
    times: int


@dataclass(frozen=True)
class Flow:
    """What one request moves.

    Attributes:
        calls: segment -> calls a request.
        places: value -> devices it lies on at some time.
        makers: value -> the segment that makes it.
        readers: value -> segments that read it, under whatever name.
        crossings: in the order in which the plan makes the values.
    """

    calls: Mapping[str, int]
    places: Mapping[str, frozenset[str]]
    makers: Mapping[str, str]
    readers: Mapping[str, frozenset[str]]
    crossings: tuple[Crossing, ...]


def follow(plan: Plan, devices: Mapping[str, str], host: str) -> Flow:
    """The flow of one request through a plan.

    Args:
        devices: segment -> name of its device.
        host: name of the device whose memory requests come from and results go to.
    """
    walk = _Walk(plan, devices, host)
    walk.steps(plan.steps, 1)
    for value in plan.outputs.values():
        walk.read(value, host)
    return walk.flow()


class _Walk:
    def __init__(self, plan: Plan, devices: Mapping[str, str], host: str) -> None:
        self.plan = plan
        self.devices = devices
        self.host = host
        drawn = [draw.value for group in plan.draws for draw in group.draws]
        given = (*plan.inputs.values(), *plan.constants, *drawn)
        self.homes: dict[str, str] = dict.fromkeys(given, host)
        self.runs: dict[str, int] = dict.fromkeys(given, 1)
        # What a carried value is: (value, times) before the first trip and in those after it.
        self.carried: dict[str, tuple[tuple[str, int], ...]] = {}
        self.finals: dict[str, str] = {}
        # (value, device) -> the segments that read it there.
        self.reads: dict[tuple[str, str], set[str]] = {}
        self.makers: dict[str, str] = {}
        self.calls: Counter[str] = Counter()

    def read(self, value: str, device: str, segment: str | None = None) -> None:
        self.reads.setdefault((value, device), set()).update([segment] if segment else [])

    def made(self, value: str, device: str, times: int) -> None:
        self.homes[value] = device
        self.runs[value] = times

    def steps(self, steps: Sequence[Step], times: int) -> None:
        for step in steps:
            if isinstance(step, Loop):
                self.loop(step, times)
            else:
                self.call(step, times)

    def call(self, step: Call, times: int) -> None:
        device = self.devices[step.segment]
        self.calls[step.segment] += times
        for value in step.inputs:
            self.read(value, device, step.segment)
        for value in step.outputs:
            self.made(value, device, times)
            self.makers[value] = step.segment

    def loop(self, step: Loop, times: int) -> None:
        inside = times * step.trips
        for part in step.slices:
            self.read(part.source, self.host)
            self.made(part.inner, self.host, inside)
        for carry in step.carries:
            self.carried[carry.inner] = ((carry.init, times), (carry.next, inside - times))
            self.runs[carry.inner] = inside
        self.steps(step.body, inside)
        for stacked in step.stacked:
            self.read(stacked.inner, self.host)
            self.made(stacked.result, self.host, times)
        for carry in step.carries:
            if carry.final is not None:
                self.finals[carry.final] = carry.next
                self.runs[carry.final] = times

    # --- afterwards -----------------------------------------------------------------------------

    def flow(self) -> Flow:
        crossing: dict[tuple[str, str], int] = {}
        places: dict[str, set[str]] = {}
        readers: dict[str, set[str]] = {}
        for (value, device), segments in self.reads.items():
            for source, times in self.sources(value, self.runs[value], set()):
                readers.setdefault(source, set()).update(segments)
                places.setdefault(source, {self.homes[source]}).add(device)
                if device != self.homes[source] and source not in self.plan.constants:
                    key = (source, device)
                    crossing[key] = max(crossing.get(key, 0), times)
        order = {value: i for i, value in enumerate(self.plan.values)}
        found = [
            Crossing(
                value,
                fixed_nbytes(self.plan.values[value]) or 0,
                self.homes[value],
                device,
                times,
            )
            for (value, device), times in crossing.items()
            if times
        ]
        found.sort(key=lambda c: (order[c.value], c.end))
        for value, home in self.homes.items():
            places.setdefault(value, {home})
        return Flow(dict(self.calls), _frozen(places), self.makers, _frozen(readers), tuple(found))

    def sources(self, value: str, times: int, seen: set[str]) -> list[tuple[str, int]]:
        """The values that have a home and are read under this name, and how often each."""
        if value in seen:
            return []
        seen.add(value)
        if value in self.finals:
            return self.sources(self.finals[value], times, seen)
        if value not in self.carried:
            return [(value, min(times, self.runs[value]))]
        return [
            found
            for source, count in self.carried[value]
            for found in self.sources(source, min(times, count), seen)
        ]


def _frozen(sets: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(some) for name, some in sets.items()}
