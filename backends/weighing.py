"""How much memory the weights of a segment take, before it is loaded and after.

An executor may say so, by a method, and an executable, by a property; who does not is taken to hold
what the segment's blobs have. The figures are estimates: of the bytes that a graph refers to, which
part a library packs for its kernels is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable, Executor

__all__ = [
    "NOTHING",
    "Place",
    "Weighed",
    "Weighing",
    "WeightUse",
    "bytes_of",
    "expected_weights",
    "held_weights",
]

#: Numbers in a bundle's file: the file's name, where they begin, how many bytes they are.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class WeightUse:
    """Bytes of a segment's weights in memory.

    Args:
        places: what is read in place from the bundle's files, by all processes that have them
            open, and perhaps by other segments.
        packed: in copies that the backend has made, which are this process's own. An estimate from
            above: the bytes of all weights that the graph refers to.
    """

    places: frozenset[Place]
    packed: int

    @property
    def mapped(self) -> int:
        """Bytes that are read in place."""
        return bytes_of(self.places)

    @property
    def total(self) -> int:
        return self.mapped + self.packed


#: Of a segment without weights.
NOTHING = WeightUse(frozenset(), 0)


def bytes_of(places: Iterable[Place]) -> int:
    """Bytes of distinct places."""
    return sum(nbytes for _, _, nbytes in set(places))


@runtime_checkable
class Weighing(Protocol):
    """An executor that knows what it would take to load a segment."""

    def weigh(self, artifact: ArtifactFiles, device: DeviceOptions) -> WeightUse:
        """What the weights will take. Reads the graph only, which has not been checked.

        Args:
            artifact: of which the weights' files may not be there yet.

        Raises:
            BundleError: the graph is malformed.
        """
        ...


@runtime_checkable
class Weighed(Protocol):
    """An executable that knows what its weights take."""

    @property
    def weights(self) -> WeightUse: ...


def expected_weights(
    executor: Executor, artifact: ArtifactFiles, device: DeviceOptions, blobs: Mapping[str, int]
) -> WeightUse:
    """What loading a segment will take.

    Args:
        blobs: the segment's, file name -> bytes, in case that the executor does not know.

    Raises:
        BundleError: the graph is malformed.
    """
    if isinstance(executor, Weighing):
        return executor.weigh(artifact, device)
    return _mapped(blobs)


def held_weights(executable: Executable, blobs: Mapping[str, int]) -> WeightUse:
    """What the weights of a loaded segment take.

    Args:
        blobs: the segment's, file name -> bytes, in case that the executable does not know.
    """
    return executable.weights if isinstance(executable, Weighed) else _mapped(blobs)


def _mapped(blobs: Mapping[str, int]) -> WeightUse:
    return WeightUse(frozenset((name, 0, size) for name, size in blobs.items()), 0)
