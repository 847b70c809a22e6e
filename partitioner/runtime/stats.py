"""What a loaded bundle has done and what it takes: figures for people and for monitoring."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partitioner.backends.execution import Executable
from partitioner.backends.weighing import Place, WeightUse, bytes_of, held_weights
from partitioner.runtime.lazy import LazySegment
from partitioner.runtime.loading import constant_places, weight_blobs
from partitioner.runtime.recorder import RequestStats
from partitioner.runtime.tallies import Tallies

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Manifest

__all__ = [
    "Held",
    "MemoryStats",
    "SegmentStats",
    "Stats",
    "memory_stats",
    "resident",
    "segment_stats",
]


@dataclass(frozen=True)
class SegmentStats:
    """A segment, since loading. What runs that are under way have done is not counted yet.

    Args:
        name: in the plan.
        backend: that runs it.
        batch: rows of the bucket that it is of; None where the bundle has no buckets.
        calls: how many.
        seconds: that they took together, from the call before each; without callbacks, and without
            the loading of ``lazy`` segments.
        loaded: whether it is in memory now; without ``lazy`` always.
        mapped, packed: bytes of its weights, as of
            :class:`partitioner.backends.weighing.WeightUse`: estimates.
    """

    name: str
    backend: str
    batch: int | None
    calls: int
    seconds: float
    loaded: bool
    mapped: int
    packed: int


@dataclass(frozen=True)
class MemoryStats:
    """Bytes that a loaded bundle takes. What backends take for their own values is not counted.

    Args:
        mapped: of weights and tables that are read in place from the bundle's files, which all
            processes that have it loaded share.
        packed: of copies of weights that backends have made, by backend: estimates from above.
        arenas: of the runs' own values, one arena for each request that was ever under way beside
            others.
        resident: of the whole process, whatever takes it; None where the system does not say.
    """

    mapped: int
    packed: dict[str, int]
    arenas: int
    resident: int | None


@dataclass(frozen=True)
class Held:
    """What a loaded bundle, or a bucket of one, has in memory.

    Args:
        executables: by segment.
        arenas: bytes of those that there are.
    """

    manifest: Manifest
    executables: Mapping[str, Executable]
    arenas: int


@dataclass(frozen=True)
class Stats:
    """What ``pipe.stats()`` gives: the figures at one moment.

    Args:
        requests: how many, and how long they took.
        segments: in the order of the plan, those of the smallest bucket first.
        memory: what is taken now.
    """

    requests: RequestStats
    segments: tuple[SegmentStats, ...]
    memory: MemoryStats

    def to_dict(self) -> dict[str, Any]:
        """The same in dicts and lists, for JSON."""
        return asdict(self)


def segment_stats(
    manifest: Manifest, executables: Mapping[str, Executable], tallies: Tallies
) -> tuple[SegmentStats, ...]:
    """The segments of a loaded bundle that has not been closed."""
    batch = None if manifest.batch is None else manifest.batch.rows
    found: list[SegmentStats] = []
    for name in manifest.plan.segments:
        executable = executables[name]
        tally, weights = tallies.of(name), _weights_of(manifest, name, executable)
        found.append(
            SegmentStats(
                name,
                manifest.artifacts[name].backend,
                batch,
                tally.calls,
                tally.seconds,
                executable.loaded if isinstance(executable, LazySegment) else True,
                weights.mapped,
                weights.packed,
            )
        )
    return tuple(found)


def memory_stats(parts: Sequence[Held]) -> MemoryStats:
    """What loaded bundles, or buckets of one, take together.

    What several segments or parts read in place is counted once, and so are the weights of segments
    that share an executable.
    """
    places: set[Place] = set()
    packed: dict[str, int] = {}
    for part in parts:
        places |= constant_places(part.manifest)
        distinct = {id(one): (name, one) for name, one in part.executables.items()}
        for name, executable in distinct.values():
            weights = _weights_of(part.manifest, name, executable)
            places |= weights.places
            if weights.packed:
                backend = part.manifest.artifacts[name].backend
                packed[backend] = packed.get(backend, 0) + weights.packed
    return MemoryStats(bytes_of(places), packed, sum(one.arenas for one in parts), resident())


def _weights_of(manifest: Manifest, name: str, executable: Executable) -> WeightUse:
    return held_weights(executable, weight_blobs(manifest, name))


def resident() -> int | None:
    """Bytes of this process in memory; None on systems other than Linux."""
    if sys.platform != "linux":
        return None
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
