"""One graph to cut, in numbers: what each op takes on each backend, and which values go where.

Planning looks for an owner and a level for every op (:mod:`partitioner.planning.levels`) such that
the estimated time is small. Nothing here knows of nodes or tensors, so that small problems can be
solved by trying everything and large ones cost little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Assignment", "Problem", "Rates", "Value", "estimate"]


@dataclass(frozen=True)
class Rates:
    """What borders and calls cost on a target.

    Attributes:
        backends: names, in order of preference.
        device: of each backend, as an index.
        call_s: of each backend, seconds that a call takes beyond its ops.
        read_s: of each device, seconds a byte that a segment reads from another one.
        latency_s: from device to device, seconds of one transfer; 0 from a device to itself.
        byte_s: from device to device, seconds a byte.
        host: the device that the request's inputs come from and its outputs go to.
    """

    backends: tuple[str, ...]
    device: tuple[int, ...]
    call_s: tuple[float, ...]
    read_s: tuple[float, ...]
    latency_s: tuple[tuple[float, ...], ...]
    byte_s: tuple[tuple[float, ...], ...]
    host: int = 0

    def transfer(self, nbytes: int, start: int, end: int) -> float:
        """Seconds to bring a value from one device to another."""
        return self.latency_s[start][end] + nbytes * self.byte_s[start][end]


@dataclass(frozen=True, slots=True)
class Value:
    """A value that ops read.

    Attributes:
        maker: the op; -1 for an input of the graph.
        nbytes: its size; 0 where only the data decide.
        held: the same for comparing what waits: :data:`~partitioner.planning.graphs.UNKNOWN_BYTES`
            where only the data decide; None for ``nbytes``.
        readers: ops of this run of the graph that read it, each once.
        later: ops that read it in the loop's next trip, as a carried value.
        home: the device it lies on, where no backend makes it; -1 for anywhere.
        wanted: devices it goes to besides: an output, an operand of a loop.
        share: how often it is brought to another device in one run of the graph: less than once
            for what a loop's body reads in every trip and that does not change.
    """

    maker: int
    nbytes: int
    readers: tuple[int, ...]
    later: tuple[int, ...] = ()
    home: int = -1
    wanted: tuple[int, ...] = ()
    share: float = 1.0
    held: int | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes for comparing what waits."""
        return self.nbytes if self.held is None else self.held


@dataclass(frozen=True)
class Problem:
    """A graph.

    Attributes:
        rates: of the target.
        seconds: op -> backend's index -> seconds, infinite where the backend does not take it;
            empty for an op that no backend runs (a loop, a call, a host op).
        values: all that is made or read, without constants.
        reads: op -> indices of the values it reads that other ops make.
        makes: op -> indices of its values.
        free: values that hold nothing back: they depend on constants alone.
        results: values that the graph gives.
    """

    rates: Rates
    seconds: Sequence[Sequence[float]]
    values: Sequence[Value]
    reads: Sequence[Sequence[int]]
    makes: Sequence[Sequence[int]]
    free: frozenset[int] = frozenset()
    results: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True)
class Assignment:
    """A way to cut a graph.

    Attributes:
        owners: op -> backend's index; ``-1 - op`` for an op that no backend runs.
        levels: op -> level; ops of one owner and one level are a segment.
        seconds: by :func:`estimate`.
    """

    owners: list[int]
    levels: list[int]
    seconds: float


def estimate(problem: Problem, owners: Sequence[int], levels: Sequence[int]) -> float:
    """Seconds of one run of the graph, without what its loops and calls take inside.

    Ops and calls are added up. A value that another segment reads is read from memory there; one
    that another device needs is brought there once.
    """
    rates = problem.rates
    total, segments = 0.0, set[tuple[int, int]]()
    for op, owner in enumerate(owners):
        if owner >= 0:
            total += problem.seconds[op][owner]
            segments.add((owner, levels[op]))
    total += sum(rates.call_s[owner] for owner, _ in segments)
    for value in problem.values:
        total += _border(problem, value, owners, levels)
    return total


def _border(problem: Problem, value: Value, owners: Sequence[int], levels: Sequence[int]) -> float:
    rates, maker = problem.rates, value.maker
    made_by = owners[maker] if maker >= 0 else -1
    home = rates.device[made_by] if made_by >= 0 else value.home
    total, devices = 0.0, set(value.wanted)
    seen: set[tuple[int, int]] = set()
    if made_by >= 0:
        seen.add((made_by, levels[maker]))
    for reader in value.readers:
        owner = owners[reader]
        if owner < 0 or (owner, levels[reader]) in seen:
            continue
        seen.add((owner, levels[reader]))
        devices.add(rates.device[owner])
        total += value.nbytes * rates.read_s[rates.device[owner]]
    for reader in value.later:
        if owners[reader] >= 0:
            devices.add(rates.device[owners[reader]])
    if home >= 0:
        ends = (end for end in devices if end != home)
        total += value.share * sum(rates.transfer(value.nbytes, home, end) for end in ends)
    return total
